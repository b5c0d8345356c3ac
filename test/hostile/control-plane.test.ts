import { rmSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { signWorkflow, workflowText } from "../../infra/lab/domain.ts"
import {
  type AttestNode,
  type AttestRequest,
  Challenge,
  type ControlEvidence,
  type EvidenceReply,
  type Offer,
} from "../../schemas/messages/attestation.ts"
import type { ResultBatch, SignedResult } from "../../schemas/messages/result.ts"
import { answerControl, answerNode, type Guest } from "../../services/attester/answer.ts"
import { Refused } from "../../services/common/bus/bus.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import type { Trust } from "../../services/common/config/anchors.ts"
import {
  forgetAcceptedNode,
  writeReleaserKey,
  writeVerifierKey,
} from "../../services/common/config/guest-keys.ts"
import type { SecretKey } from "../../services/common/crypto/index.ts"
import { decodeResult } from "../../services/dataplane-loader/open-release.ts"
import type { Session } from "../../services/dataplane-loader/session.ts"
import { encodeGuestPolicy } from "../../services/evidence/index.ts"
import { challengeValue } from "../../services/make/challenge.ts"
import { controlBinding, controlEvidenceDigest } from "../../services/make/control-plane.ts"
import { sign } from "../../services/make/envelope.ts"
import { type Label, labels } from "../../services/make/labels.ts"
import { buildTree, helloLeaf } from "../../services/make/merkle.ts"
import { signResults } from "../../services/make/result.ts"
import { controlReportData } from "../../services/make/transcript.ts"
import { type VerifiedWorkflow, verifyWorkflow } from "../../services/make/workflow-document.ts"
import { snpIn, withSnp } from "../support/evidence-pieces.ts"
import {
  attested,
  attestSession,
  begin,
  offerFor,
  type PlayedNode,
  playNode,
  prepare,
  queueOf,
  refusedPull,
  requestFor,
  signedPull,
} from "./nodes.ts"
import {
  bent,
  CONTROL_IMAGE,
  chipOf,
  crypto,
  filled,
  flipped,
  foreignRoot,
  type Machine,
  machine,
  startWorld,
  type World,
} from "./support.ts"

let world: World
let node: PlayedNode
let other: PlayedNode

beforeAll(async () => {
  world = await startWorld({
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
    ],
  })
  node = await playNode(world, "n1")
  other = await playNode(world, "n2")
})
afterAll(() => world?.stop())

/** A control plane of the test's own: its code is right, its place is not. */
interface Plane {
  readonly device: Machine
  readonly trust: Trust
  readonly workflow: VerifiedWorkflow
  readonly verifier: SecretKey
  readonly directory: string
}

let planes = 0

/** With the right machine, configuration and workflow when nothing is changed. */
const newPlane = (
  change: Partial<Pick<Plane, "device" | "trust" | "workflow">> & { releaser?: SecretKey } = {},
): Plane => {
  const directory = world.newDirectory(`plane-${++planes}`)
  const verifier = crypto.ed25519.generate()
  const releaser = change.releaser ?? crypto.ed25519.generate()
  writeVerifierKey(directory, { instance: "v1", key: verifier.publicKey })
  writeReleaserKey(directory, { instance: "r1", key: releaser.publicKey, term: 7n })
  return {
    device: change.device ?? machine(world.controlChip, { measurement: CONTROL_IMAGE }),
    trust: change.trust ?? world.trust,
    workflow: change.workflow ?? world.workflow,
    verifier,
    directory,
  }
}

interface Deviation {
  /** Whose leaf stands in the tree. */
  readonly leaf?: { readonly role?: string; readonly id?: string; readonly nonce?: Uint8Array }
  readonly challenge?: Partial<Challenge>
  readonly signer?: SecretKey
  readonly label?: Label
}

/** The offer that this control plane makes to a session. */
const offerOf = async (plane: Plane, session: Session, deviation: Deviation = {}): Promise<Offer> => {
  const guest: Guest = {
    crypto,
    trust: plane.trust,
    id: "cp",
    runDirectory: plane.directory,
    device: queueOf(() => plane.device),
  }
  const { role = "node", id = session.node, nonce = session.nonce } = deviation.leaf ?? {}
  const tree = buildTree(crypto, [helloLeaf("node", "somebody", filled(32, 1)), helloLeaf(role, id, nonce)])
  const control = await answerControl(guest, plane.workflow, {
    v: 1,
    kind: "attest-control",
    merkle_root: tree.root,
    leaves: tree.size,
  })
  const body = encode(Challenge, {
    v: 1,
    domain: plane.trust.domain,
    node: session.node,
    session: session.id,
    verifier: "v1",
    verifier_nonce: crypto.randomBytes(32),
    beacon: crypto.randomBytes(32),
    workflow: plane.workflow.digest,
    ...deviation.challenge,
  })
  const { index, path } = tree.inclusion(1)
  return {
    v: 1,
    kind: "offer",
    control,
    index,
    path: [...path],
    challenge: sign(
      crypto,
      (deviation.label ?? labels.signedChallenge) as typeof labels.signedChallenge,
      deviation.signer ?? plane.verifier,
      body,
    ),
  }
}

const withClaims = (offer: Offer, change: Partial<ControlEvidence["claims"]>): Offer => ({
  ...offer,
  control: { ...offer.control, claims: { ...offer.control.claims, ...change } },
})
const withReport = (offer: Offer, report: Uint8Array): Offer => ({
  ...offer,
  control: { ...offer.control, evidence: withSnp(offer.control.evidence, () => ({ report })) },
})

const otherWorkflow = (change: object): VerifiedWorkflow => {
  const signed = signWorkflow(workflowText({ ...world.workflow.document, ...change }), world.operator)
  return verifyWorkflow(
    crypto,
    signed,
    { ...world.trust, domain: (change as { domain?: string }).domain ?? "lab" },
    Date.now(),
  )
}

const foreignOperator = (): Trust => ({
  ...world.trust,
  operatorKeys: [crypto.ed25519.generate().publicKey],
})

/** What the attester is to be asked about this offer by whoever doesn't ask its loader first. */
const naming = (session: Session, { control, challenge }: Offer): AttestNode => {
  const { verifier_nonce, beacon } = decodedChallenge(challenge)
  return {
    v: 1,
    kind: "attest-node",
    session: session.id,
    control: controlEvidenceDigest(crypto, control),
    challenge: challengeValue(crypto, verifier_nonce, beacon),
  }
}

const decodedChallenge = ({ body }: Offer["challenge"]): Challenge => {
  const found = decode(Challenge, body, { subject: "challenge" })
  return found.ok ? found.value : ({ verifier_nonce: filled(32, 1), beacon: filled(32, 2) } as Challenge)
}

/** Asked directly and over the bus, the attester gives no Evidence. */
const expectUnattested = async (request: AttestNode, code: string, field: string): Promise<void> => {
  await expect(answerNode(node.guest, world.workflow, request)).rejects.toThrow()
  const overBus = await world.run(
    node.bus.request("attest", { node: "n1", identity: "loader-n1" }, request, { timeoutMs: 5_000 }),
  )
  expect(overBus).toMatchObject({ kind: "refused", by: "attester-n1", code, field })
}

/** Offered to this session, the loader fails with this and says so; nothing goes to a verifier; nor does the attester sign. */
const expectDisbelieved = async (
  session: Session,
  offer: Offer,
  code: string,
  field: string,
): Promise<void> => {
  const mark = await world.mark()
  const evidenceBefore = world.sent("evidence.v1.n1").length
  const asked = world.sent("attest.n1.loader-n1").length
  const found = await attestSession(world, node, session, bent(node.bus, { reply: { hello: () => offer } }))
  expect(found).toBeInstanceOf(Refused)
  expect(found).toMatchObject({ code, field })
  await world.recorded(mark, {
    by: "loader-n1",
    type: "vouchsafe.control.refused",
    subject: "n1",
    code,
    field,
  })
  expect(world.sent("evidence.v1.n1").length).toBe(evidenceBefore)
  expect(world.sent("attest.n1.loader-n1").length).toBe(asked)

  // Whoever asks the attester all the same asks for what its loader has not left there.
  await expectUnattested(naming(session, offer), "FILE_MISSING", "guest")
}

describe("a control plane that is what the anchors name", () => {
  it("is believed: the real one", async () => {
    const mark = await world.mark()
    const { control } = await attested(world, node)
    expect(control.control).toBe("cp")
    await world.recorded(mark, { by: "loader-n1", type: "vouchsafe.control.accepted", subject: "n1" })
  })
  it("is believed: the test's own, when it deviates in nothing", async () => {
    const session = begin(node)
    const offer = await offerOf(newPlane(), session)
    const evidence = await answerNode(node.guest, world.workflow, requestFor(world, session, offer))
    expect(evidence.claims.nonce).toEqual(session.nonce)
  })
})

describe("believed by no loader, and so attested by no attester: a control plane", () => {
  const onMachine = (launch: Partial<Parameters<typeof machine>[1]>) => () =>
    newPlane({ device: machine(world.controlChip, { measurement: CONTROL_IMAGE, ...launch }) })
  const imposters: ReadonlyArray<readonly [string, () => Plane, string, string]> = [
    [
      "that obeys other operators",
      () => newPlane({ trust: foreignOperator() }),
      "MISDIRECTED",
      "control.operators",
    ],
    [
      "that obeys an operator more",
      () =>
        newPlane({
          trust: {
            ...world.trust,
            operatorKeys: [...world.trust.operatorKeys, crypto.ed25519.generate().publicKey],
          },
        }),
      "MISDIRECTED",
      "control.operators",
    ],
    [
      "of another domain",
      () => newPlane({ trust: { ...world.trust, domain: "elsewhere" } }),
      "MISDIRECTED",
      "control.domain",
    ],
    [
      "of another workflow",
      () => newPlane({ workflow: otherWorkflow({ version: 2 }) }),
      "MISDIRECTED",
      "control.workflow",
    ],
    [
      "that accepts another root as well",
      () => {
        const roots = [world.root.hardwareRoot, foreignRoot().hardwareRoot]
        const { document, digest } = world.workflow
        return newPlane({ workflow: { document: { ...document, roots }, digest } })
      },
      "MISDIRECTED",
      "control.roots",
    ],
    [
      "with another image",
      onMachine({ measurement: flipped(CONTROL_IMAGE) }),
      "NOT_VOUCHED",
      "control.measurement",
    ],
    [
      "that the host may debug",
      onMachine({ policy: encodeGuestPolicy({ smt: true, debug: true }) }),
      "NOT_VOUCHED",
      "control.debug",
    ],
    [
      "that may migrate",
      onMachine({ policy: encodeGuestPolicy({ smt: true, migrationAgent: true }) }),
      "NOT_VOUCHED",
      "control.migration-agent",
    ],
    ["at VMPL 1", onMachine({ vmpl: 1 }), "NOT_VOUCHED", "control.vmpl"],
    [
      "on another chip",
      () => newPlane({ device: machine(chipOf(world.root), { measurement: CONTROL_IMAGE }) }),
      "NOT_VOUCHED",
      "control.chip-id",
    ],
    [
      "on the chip of a node",
      () => newPlane({ device: machine(world.chip("n1"), { measurement: CONTROL_IMAGE }) }),
      "NOT_VOUCHED",
      "control.chip-id",
    ],
    [
      "of another lab's root",
      () => {
        const chip = chipOf(foreignRoot(), { hardwareId: world.controlChip.chipId })
        return newPlane({ device: machine(chip, { measurement: CONTROL_IMAGE }) })
      },
      "NOT_VOUCHED",
      "control.genuine",
    ],
  ]
  it.each(imposters)("%s", async (_, make, code, field) => {
    const session = begin(node)
    await expectDisbelieved(session, await offerOf(make(), session), code, field)
  })

  const lies: ReadonlyArray<readonly [string, (offer: Offer) => Offer]> = [
    ["whose Evidence binds other operators than it says", (offer) => offer],
    [
      "whose verifier key was exchanged",
      (offer) => withClaims(offer, { verifier_key: crypto.ed25519.generate().publicKey }),
    ],
    [
      "whose releaser key was exchanged",
      (offer) => withClaims(offer, { releaser_key: crypto.ed25519.generate().publicKey }),
    ],
    [
      "to which another guest's verifier was added",
      (offer) => withClaims(offer, { verifiers: [crypto.ed25519.generate().publicKey] }),
    ],
    ["whose term was raised", (offer) => withClaims(offer, { term: offer.control.claims.term + 1n })],
  ]
  it.each(lies)("%s", async (name, change) => {
    const session = begin(node)
    const lying = name.includes("operators")
    const plane = lying ? newPlane({ trust: foreignOperator() }) : newPlane()
    const right = (await offerOf(newPlane(), session)).control.claims.operators
    const offer = change(await offerOf(plane, session))
    const shown = lying ? withClaims(offer, { operators: right }) : offer
    await expectDisbelieved(session, shown, "NOT_VOUCHED", "control.report-data")
  })

  it("whose releaser only stands by, and says so", async () => {
    const session = begin(node)
    const plane = newPlane()
    const releaser = crypto.ed25519.generate()
    writeReleaserKey(plane.directory, { instance: "r1", key: releaser.publicKey, term: 0n })
    await expectDisbelieved(session, await offerOf(plane, session), "NOT_VOUCHED", "control.term")
  })

  it("that shows a node's report as its own, even of its own machine", async () => {
    const session = begin(node)
    const genuine = await offerFor(world, node, session)
    const evidence = await answerNode(
      { ...node.guest, device: queueOf(() => machine(world.controlChip, { measurement: CONTROL_IMAGE })) },
      world.workflow,
      requestFor(world, session, genuine),
    )
    forgetAcceptedNode(node.runDirectory)
    const offer = withReport(await offerOf(newPlane(), session), snpIn(evidence.evidence).report)
    await expectDisbelieved(session, offer, "NOT_VOUCHED", "control.report-data")
  })

  it("whose report was changed in one bit", async () => {
    const session = begin(node)
    const offer = await offerOf(newPlane(), session)
    await expectDisbelieved(
      session,
      withReport(offer, flipped(snpIn(offer.control.evidence).report, 0x60)),
      "NOT_VOUCHED",
      "control.genuine",
    )
  })
})

describe("believed by no loader, and so attested by no attester: an offer", () => {
  it("of the real control plane to an earlier session", async () => {
    const earlier = begin(node)
    const offer = await offerFor(world, node, earlier)
    await expectDisbelieved(begin(node), offer, "STALE", "control.merkle_root")
  })
  it("of the real control plane to another node", async () => {
    const theirs = begin(other)
    const offer = await offerFor(world, other, theirs)
    await expectDisbelieved(begin(node), offer, "STALE", "control.merkle_root")
  })

  const trees: ReadonlyArray<readonly [string, Deviation, (offer: Offer) => Offer]> = [
    ["over a nonce that wasn't asked with", { leaf: { nonce: filled(32, 3) } }, (offer) => offer],
    ["over another node's leaf with the same nonce", { leaf: { id: "n2" } }, (offer) => offer],
    ["over a releaser's leaf with the same nonce", { leaf: { role: "releaser" } }, (offer) => offer],
    ["with a path of another length", {}, (offer) => ({ ...offer, path: [...offer.path, filled(32, 1)] })],
    ["without its path", {}, (offer) => ({ ...offer, path: [] })],
    ["with another place in the tree", {}, (offer) => ({ ...offer, index: 0 })],
    ["of a tree of another size", {}, (offer) => withClaims(offer, { leaves: 1 })],
  ]
  it.each(trees)("%s", async (_, deviation, change) => {
    const session = begin(node)
    const offer = change(await offerOf(newPlane(), session, deviation))
    await expectDisbelieved(session, offer, "STALE", "control.merkle_root")
  })

  const challenges: ReadonlyArray<readonly [string, () => Deviation, string, string]> = [
    [
      "whose challenge another key has signed",
      () => ({ signer: crypto.ed25519.generate() }),
      "NOT_AUTHENTIC",
      "key",
    ],
    [
      "whose challenge was signed as a result",
      () => ({ label: labels.signedResults }),
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "whose challenge is for another node",
      () => ({ challenge: { node: "n2" } }),
      "MISDIRECTED",
      "challenge",
    ],
    [
      "whose challenge is for another session",
      () => ({ challenge: { session: filled(16, 1) } }),
      "MISDIRECTED",
      "challenge",
    ],
    [
      "whose challenge is for another domain",
      () => ({ challenge: { domain: "elsewhere" } }),
      "MISDIRECTED",
      "challenge",
    ],
    [
      "whose challenge is for another workflow",
      () => ({ challenge: { workflow: filled(32, 1) } }),
      "MISDIRECTED",
      "challenge",
    ],
  ]
  it.each(challenges)("%s", async (_, deviation, code, field) => {
    const session = begin(node)
    await expectDisbelieved(session, await offerOf(newPlane(), session, deviation()), code, field)
  })

  it("of the real control plane with a challenge that was changed on the way", async () => {
    const session = begin(node)
    const offer = await offerFor(world, node, session)
    const { challenge } = offer
    for (const [changed, field] of [
      [{ ...challenge, body: flipped(challenge.body) }, "signature"],
      [{ ...challenge, signature: flipped(challenge.signature) }, "signature"],
      [{ ...challenge, key: flipped(challenge.key) }, "key"],
    ] as const)
      await expectDisbelieved(session, { ...offer, challenge: changed }, "NOT_AUTHENTIC", field)
  })
})

describe("an attester is asked, by whoever runs the bus, for Evidence", () => {
  it("of another offer to this session than the one that the loader accepted", async () => {
    const session = begin(node)
    const genuine = requestFor(world, session, await offerFor(world, node, session))
    const other = naming(session, await offerOf(newPlane({ trust: foreignOperator() }), session))
    await expectUnattested(other, "STALE", "control")
    await expectUnattested({ ...genuine, challenge: other.challenge }, "STALE", "challenge")
    await expectUnattested({ ...genuine, control: other.control }, "STALE", "control")
    expect((await answerNode(node.guest, world.workflow, genuine)).claims.control).toEqual(genuine.control)
  })
  it("of a session that a newer one has followed, in which nothing or something else is accepted", async () => {
    const earlier = begin(node)
    const request = requestFor(world, earlier, await offerFor(world, node, earlier))
    const session = begin(node)
    await expectUnattested(request, "FILE_MISSING", "guest")
    await expectUnattested({ ...request, session: session.id }, "FILE_MISSING", "guest")
    requestFor(world, session, await offerFor(world, node, session))
    await expectUnattested(request, "STALE", "session")
    await expectUnattested({ ...request, session: session.id }, "STALE", "control")
  })
  it("of what a loader accepted that died before it asked, once the next one has begun", async () => {
    const died = begin(node)
    const request = requestFor(world, died, await offerFor(world, node, died))
    // Until then it is genuine Evidence of keys that nobody has any more.
    expect((await answerNode(node.guest, world.workflow, request)).claims.session).toEqual(died.id)
    begin(node)
    await expectUnattested(request, "FILE_MISSING", "guest")
  })
  it("under another document than the attester knows", async () => {
    const session = begin(node)
    const request = requestFor(world, session, await offerFor(world, node, session))
    const newer = otherWorkflow({ version: world.workflow.document.version + 1 })
    await expect(answerNode(node.guest, newer, request)).rejects.toMatchObject({
      code: "MISDIRECTED",
      field: "workflow",
    })
  })
})

describe("roles don't reflect", () => {
  const control = { v: 1, kind: "attest-control", merkle_root: filled(32, 1), leaves: 1 } as const

  it("a node's attester makes no control plane's Evidence", async () => {
    const reply = await world.run(
      node.bus.request("attest", { node: "n1", identity: "loader-n1" }, control, { timeoutMs: 5_000 }),
    )
    expect(reply).toMatchObject({ kind: "refused", code: "MISDIRECTED", field: "kind" })
  })
  it("the control plane's attester makes no node's", async () => {
    const { session, offer } = await prepare(world, node)
    const verifier = await world.bus("verifier", "v1")
    const ask = (value: AttestRequest) =>
      world.run(
        verifier.request("attest", { node: "cp", identity: "verifier-v1" }, value, { timeoutMs: 5_000 }),
      )
    expect(await ask(naming(session, offer))).toMatchObject({
      kind: "refused",
      code: "MISDIRECTED",
      field: "kind",
    })
    // What it signs for the same asker otherwise holds for the nonces that it was asked with and nothing else.
    const quoted = await ask(control)
    if (quoted.kind !== "control-evidence") throw new Error(quoted.kind)
    expect(snpIn(quoted.evidence).report.subarray(0x50, 0x90)).toEqual(
      controlReportData(crypto, controlBinding(quoted.claims)),
    )
  })
  it("a node's attester answers nobody but its own loader", async () => {
    const { session, offer } = await prepare(world, node)
    const verifier = await world.bus("verifier", "v1")
    const before = world.sent("evidence.v1.n1").length
    const reply = await world.run(
      verifier.request("attest", { node: "n1", identity: "verifier-v1" }, naming(session, offer), {
        timeoutMs: 5_000,
      }),
    )
    expect(reply).toMatchObject({ kind: "refused", code: "MISDIRECTED" })
    expect(world.sent("evidence.v1.n1").length).toBe(before)
  })
})

const byLoader = { by: "loader-n1", type: "vouchsafe.attestation.refused", subject: "n1" }

describe("a node whose own attester refuses", () => {
  it("says so in the record, and sends nothing to a verifier", async () => {
    const mark = await world.mark()
    const sent = world.sent("evidence.v1.n1").length
    const lost = (request: AttestRequest): AttestRequest => {
      rmSync(join(node.runDirectory, "node.json"))
      return request
    }
    const found = await attestSession(world, node, begin(node), bent(node.bus, { send: { attest: lost } }))
    expect(found).toMatchObject({ code: "FILE_MISSING", field: "guest" })
    await world.recorded(mark, { ...byLoader, code: "FILE_MISSING", field: "guest" })
    expect(world.sent("evidence.v1.n1").length).toBe(sent)
  })
})

describe("a result that was changed on the way", () => {
  const resultOf = (reply: EvidenceReply): SignedResult => {
    if (reply.kind === "result") return reply.result
    throw new Error(reply.code)
  }
  type Change = (signed: SignedResult) => SignedResult
  const batch = (change: (batch: ResultBatch) => Partial<ResultBatch>): Change => {
    return (signed) => ({ ...signed, batch: { ...signed.batch, ...change(signed.batch) } })
  }
  const changes: ReadonlyArray<readonly [string, Change, string]> = [
    ["in its body", (signed) => ({ ...signed, body: flipped(signed.body) }), "result"],
    ["at its body's end", (signed) => ({ ...signed, body: signed.body.slice(0, -1) }), "result"],
    ["in its subject", (signed) => ({ ...signed, subject: flipped(signed.subject) }), "result"],
    ["in its place", (signed) => ({ ...signed, index: signed.index + 1 }), "result"],
    ["in its path", (signed) => ({ ...signed, path: [...signed.path, filled(32, 1)] }), "result"],
    ["in its batch's root", batch(({ root }) => ({ root: flipped(root) })), "signature"],
    ["in its batch's size", batch(({ size }) => ({ size: size + 1 })), "signature"],
    ["in its signature", batch(({ signature }) => ({ signature: flipped(signature) })), "signature"],
    ["in its key", batch(({ key }) => ({ key: flipped(key) })), "key"],
    [
      "and signed again by somebody else",
      ({ body }) => {
        const claims = decodeResult(body)
        const of = { ...claims, dhKey: claims.dh_key, body }
        return signResults(crypto, crypto.ed25519.generate(), [of])[0] ?? expect.unreachable()
      },
      "key",
    ],
  ]
  it.each(changes)("%s is refused by the node and by the releaser", async (_, change, field) => {
    const session = begin(node)
    let changed: SignedResult | undefined
    const evidence = (reply: EvidenceReply): EvidenceReply => {
      changed = change(resultOf(reply))
      return { v: 1, kind: "result", result: changed }
    }
    const before = await world.mark()
    const found = await attestSession(world, node, session, bent(node.bus, { reply: { evidence } }))
    expect(found).toBeInstanceOf(Refused)
    expect(found).toMatchObject({ code: "NOT_AUTHENTIC", field })
    await world.recorded(before, { ...byLoader, code: "NOT_AUTHENTIC", field })

    if (changed === undefined) throw new Error("no result came")
    const pull = signedPull(session.signing, { node: "n1", session: session.id, result: changed })
    // A key that isn't the known verifier's is not even asked about twice in a second.
    const refusal =
      field === "key" ? { code: /^(NOT_AUTHENTIC|NOT_VOUCHED)$/ } : { code: "NOT_AUTHENTIC", field }
    await refusedPull(world, node, pull, refusal)
    expect(world.sent("release.n1")).toEqual([])
  })

  it("for that of an earlier session is refused by the node and by the releaser", async () => {
    const earlier = (await attested(world, node)).result.signed
    const session = begin(node)
    const before = await world.mark()
    const evidence = (): EvidenceReply => ({ v: 1, kind: "result", result: earlier })
    const found = await attestSession(world, node, session, bent(node.bus, { reply: { evidence } }))
    expect(found).toMatchObject({ code: "MISDIRECTED", field: "result" })
    await world.recorded(before, { ...byLoader, code: "MISDIRECTED", field: "result" })
    const pull = signedPull(session.signing, { node: "n1", session: session.id, result: earlier })
    await refusedPull(world, node, pull, { code: "NOT_VOUCHED", field: "pull.key" })
    expect(world.sent("release.n1")).toEqual([])
  })

  it("for that of another node is refused by the node", async () => {
    const foreign = (await attested(world, other)).result.signed
    const evidence = (): EvidenceReply => ({ v: 1, kind: "result", result: foreign })
    const found = await attestSession(world, node, begin(node), bent(node.bus, { reply: { evidence } }))
    expect(found).toMatchObject({ code: "MISDIRECTED", field: "result" })
  })

  it("in nothing is believed, and answered with a release", async () => {
    const { session, result } = await attested(world, node)
    const mark = await world.mark()
    const pull = signedPull(session.signing, {
      node: "n1",
      session: session.id,
      result: result.signed,
      kemKey: session.kem.publicKey,
    })
    await world.run(node.bus.publish("pull", { node: "n1" }, pull))
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.release.sent", subject: "n1" })
    // Nobody acknowledges it: by the time that the event is there it may have been sent again.
    expect(world.sent("release.n1").length).toBeGreaterThan(0)
    world.allRun()
  })
})
