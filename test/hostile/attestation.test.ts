import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import type { AttestationResult, EvidenceReply, NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Session } from "../../services/dataplane-loader/session.ts"
import { encodeGuestPolicy, plainTcb } from "../../services/evidence/index.ts"
import { controlBinding } from "../../services/make/control-plane.ts"
import { controlReportData } from "../../services/make/transcript.ts"
import { snpEvidence, withSnp } from "../support/evidence-pieces.ts"
import {
  attested,
  begin,
  claiming,
  claimsOf,
  enrolledMachine,
  forgedResult,
  hello,
  type Life,
  live,
  type PlayedNode,
  playNode,
  prepare,
  refusedPull,
  signedPull,
  submit,
} from "./nodes.ts"
import {
  chipOf,
  crypto,
  filled,
  flipped,
  foreignRoot,
  imageOf,
  machine,
  pause,
  startWorld,
  until,
  type World,
} from "./support.ts"

let world: World
let bad: PlayedNode
let honest: PlayedNode
let slow: { readonly node: PlayedNode; readonly evidence: NodeEvidence; readonly sinceMs: number }
/** Of an honest node, to forge others from. */
let genuine: AttestationResult
const lives: Life[] = []
/** Whoever must never have got a release. */
const refusedNodes = ["bad", "slow", "vault", "stranger"]

beforeAll(async () => {
  world = await startWorld({
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
      { id: "n3", stage: "sink" },
      { id: "bad", stage: "source" },
      { id: "slow", stage: "source" },
      { id: "vault", stage: "vault" },
    ],
    strangers: ["stranger"],
  })
  // Its answer will come too late.
  const node = await playNode(world, "slow")
  const { evidence } = await prepare(world, node)
  // The challenge is older than that, by as long as the machine was busy.
  slow = { node, sinceMs: performance.now(), evidence }
  honest = await playNode(world, "n1")
  bad = await playNode(world, "bad")
  genuine = claimsOf(await attested(world, honest))
})
afterAll(() => world?.stop())

/** A refused node asks for keys all the same, on the strength of a result that it has made up. */
const askAnyway = async (node: PlayedNode, session: Session): Promise<void> => {
  const result = forgedResult(session.signing, session, genuine)
  const pull = signedPull(session.signing, { node: node.id, session: session.id, result })
  await refusedPull(world, node, pull, { code: /^(NOT_VOUCHED|NOT_AUTHENTIC)$/ })
}

interface Why {
  readonly code: string
  readonly field: string
}

/** The answer, the audit event with the failing check, and no key for asking. */
const expectRefused = async (
  node: PlayedNode,
  session: Session,
  after: number,
  reply: EvidenceReply,
  { code, field }: Why,
): Promise<void> => {
  expect(reply).toMatchObject({ kind: "refused", by: "verifier-v1", code, field })
  const event = await world.recorded(after, {
    by: "verifier-v1",
    type: "vouchsafe.attestation.refused",
    subject: node.id,
    code,
    field,
  })
  expect(event.data.node).toBe(node.id)
  if (code !== "STALE") {
    const failed = event.data.checks?.filter(({ result }) => result === "failed") ?? []
    expect(failed[0]?.name).toBe(field)
    expect(failed[0]?.found).not.toBe(failed[0]?.wanted)
  }
  await askAnyway(node, session)
  expect(world.sent(`release.${node.id}`)).toEqual([])
}

const sourceOn = (launch: Partial<Parameters<typeof machine>[1]>) => (world: World) =>
  machine(world.chip("bad"), { measurement: imageOf("source"), ...launch })

const sameChip = (change: Parameters<typeof chipOf>[1]) => (world: World) =>
  machine(chipOf(world.root, { hardwareId: world.chip("bad").chipId, ...change }), {
    measurement: imageOf("source"),
  })

const days = (from: number, to: number) => ({
  notBefore: new Date(Date.now() + from * 86_400_000),
  notAfter: new Date(Date.now() + to * 86_400_000),
})

describe("nodes that are what the workflow wants", () => {
  it("are accepted, say so in the record, and get releases", async () => {
    const before = await world.mark()
    lives.push(await live(world, honest), await live(world, await playNode(world, "n2")))
    for (const node of ["n1", "n2"]) {
      const accepted = await world.recorded(before, {
        by: "verifier-v1",
        type: "vouchsafe.attestation.accepted",
        subject: node,
      })
      expect(accepted.data).toMatchObject({ emulated: true, stage: node === "n1" ? "source" : "transform" })
      expect(accepted.data.checks?.filter(({ result }) => result === "failed")).toEqual([])
      await world.recorded(before, { by: "releaser-r1", type: "vouchsafe.release.sent", subject: node })
    }
    await world.recorded(before, { by: "releaser-r1", type: "vouchsafe.edge.active", subject: "raw:n1:n2" })
    await until("keys in both kernels", () =>
      lives.every(({ log }) => log.some((line) => line.startsWith("activate"))) ? true : undefined,
    )
    expect(world.sent("release.n1").length).toBeGreaterThan(0)
  })
})

describe("a machine that is not what the stage wants is refused by name", () => {
  const machines: ReadonlyArray<readonly [string, (world: World) => PlayedNode["machine"], string, string]> =
    [
      [
        "another launch measurement",
        sourceOn({ measurement: flipped(imageOf("source")) }),
        "MEASUREMENT",
        "measurement",
      ],
      [
        "the image of another stage",
        sourceOn({ measurement: imageOf("sink") }),
        "MEASUREMENT",
        "measurement",
      ],
      [
        "the debug bit",
        sourceOn({ policy: encodeGuestPolicy({ smt: true, debug: true }) }),
        "DEBUG",
        "debug",
      ],
      [
        "a migration agent",
        sourceOn({ policy: encodeGuestPolicy({ smt: true, migrationAgent: true }) }),
        "MIGRATION_AGENT",
        "migration-agent",
      ],
      ["VMPL 1", sourceOn({ vmpl: 1 }), "VMPL", "vmpl"],
      [
        "another chip than the enrolled",
        (world) => machine(chipOf(world.root), { measurement: imageOf("source") }),
        "CHIP_ID",
        "chip-id",
      ],
      [
        "another node's chip",
        (world) => machine(world.chip("n1"), { measurement: imageOf("source") }),
        "CHIP_ID",
        "chip-id",
      ],
      [
        "another lab's root",
        (world) =>
          machine(chipOf(foreignRoot(), { hardwareId: world.chip("bad").chipId }), {
            measurement: imageOf("source"),
          }),
        "ROOT_UNKNOWN",
        "genuine",
      ],
      [
        "another lab's chip under the right root's certificates",
        (world) => {
          const foreign = chipOf(foreignRoot(), { hardwareId: world.chip("bad").chipId })
          const [leaf] = foreign.certificates
          const certificates = [leaf ?? new Uint8Array(0), ...world.root.certificates]
          return machine({ ...foreign, certificates }, { measurement: imageOf("source") })
        },
        "CERTIFICATE_SIGNATURE",
        "genuine",
      ],
      [
        "the enrolled chip's certificate, but not its key",
        (world) =>
          machine(
            { ...world.chip("bad"), key: crypto.ecdsaP384.generate() },
            { measurement: imageOf("source") },
          ),
        "REPORT_SIGNATURE",
        "genuine",
      ],
      ["a VCEK that has expired", sameChip({ validity: days(-20, -1) }), "CERTIFICATE_EXPIRED", "genuine"],
      [
        "a VCEK that is not valid yet",
        sameChip({ validity: days(1, 20) }),
        "CERTIFICATE_NOT_YET_VALID",
        "genuine",
      ],
      [
        "firmware below the minimum",
        sameChip({ tcb: { ...plainTcb, snp: 7 } }),
        "TCB_CURRENT",
        "tcb-current",
      ],
      [
        "microcode below the minimum",
        sameChip({ tcb: { ...plainTcb, microcode: 114 } }),
        "TCB_CURRENT",
        "tcb-current",
      ],
    ]
  it.each(machines)("%s", async (_, make, code, field) => {
    bad.machine = make(world)
    try {
      const { session, evidence } = await prepare(world, bad)
      const mark = await world.mark()
      await expectRefused(bad, session, mark, await submit(world, bad, evidence), { code, field })
    } finally {
      bad.machine = enrolledMachine(world, "bad")
    }
  })

  it("an emulated machine for a stage that wants real hardware", async () => {
    const vault = await playNode(world, "vault")
    const { session, evidence } = await prepare(world, vault)
    const mark = await world.mark()
    const why = { code: "ASSURANCE", field: "assurance" }
    await expectRefused(vault, session, mark, await submit(world, vault, evidence), why)
  })

  it("a data plane that differs in one bit", async () => {
    bad.dataplane = flipped(bad.dataplane)
    try {
      const { session, evidence } = await prepare(world, bad)
      const mark = await world.mark()
      const why = { code: "DATAPLANE", field: "dataplane" }
      await expectRefused(bad, session, mark, await submit(world, bad, evidence), why)
    } finally {
      bad.dataplane = flipped(bad.dataplane)
    }
  })
})

describe("Evidence that claims what was not asked is refused, though its hardware vouches for it", () => {
  const claims: ReadonlyArray<readonly [string, Partial<NodeEvidence["claims"]>, string]> = [
    ["another domain", { domain: "elsewhere" }, "domain"],
    ["another node of the same stage", { node: "n1" }, "node"],
    ["a node of another stage", { node: "n3" }, "node"],
    ["a node that the workflow doesn't name", { node: "stranger" }, "node"],
    ["no suite of the workflow", { suites: ["aes-128-cbc"] }, "suite"],
    ["no KEM key where the suite needs one", { kem_key: new Uint8Array(0) }, "keys"],
    ["a KEM key with coefficients out of range", { kem_key: filled(1_184, 0xff) }, "keys"],
    ["a DH key of small order", { dh_key: filled(32, 0) }, "keys"],
    ["another workflow", { workflow: filled(32, 9) }, "workflow"],
    ["a nonce that it didn't say hello with", { nonce: filled(32, 9) }, "nonce"],
    ["another challenge", { challenge: filled(32, 9) }, "challenge"],
    ["another control plane than was offered", { control: filled(32, 9) }, "control-plane"],
  ]
  it.each(claims)("%s", async (_, change, field) => {
    const { session, evidence } = await prepare(world, bad)
    const mark = await world.mark()
    const reply = await submit(world, bad, claiming(bad.machine, evidence, change))
    const code = field.toUpperCase().replace("-", "_")
    await expectRefused(bad, session, mark, reply, { code, field })
  })
})

describe("Evidence that was changed on the way is refused", () => {
  const changes: ReadonlyArray<readonly [string, (evidence: NodeEvidence) => NodeEvidence, string, string]> =
    [
      [
        "another DH key",
        (e) => ({ ...e, claims: { ...e.claims, dh_key: crypto.x25519.generate().publicKey } }),
        "REPORT_DATA",
        "report-data",
      ],
      [
        "another signing key",
        (e) => ({ ...e, claims: { ...e.claims, signing_key: crypto.ed25519.generate().publicKey } }),
        "REPORT_DATA",
        "report-data",
      ],
      [
        "another KEM key",
        (e) => ({ ...e, claims: { ...e.claims, kem_key: filled(1_184, 1) } }),
        "REPORT_DATA",
        "report-data",
      ],
      [
        "another boot",
        (e) => ({ ...e, claims: { ...e.claims, boot: filled(16, 1) } }),
        "REPORT_DATA",
        "report-data",
      ],
      [
        "one bit of the report's data",
        (e) => ({
          ...e,
          evidence: withSnp(e.evidence, ({ report }) => ({ report: flipped(report, 0x50) })),
        }),
        "REPORT_SIGNATURE",
        "genuine",
      ],
      [
        "one bit of the leaf certificate's end",
        (e) => ({
          ...e,
          evidence: withSnp(e.evidence, ({ certificates }) => ({
            certificates: certificates.map((der, i) => (i === 0 ? flipped(der, der.length - 20) : der)),
          })),
        }),
        "CERTIFICATE_SIGNATURE",
        "genuine",
      ],
      [
        "a chain without its root",
        (e) => ({
          ...e,
          evidence: withSnp(e.evidence, ({ certificates }) => ({ certificates: certificates.slice(0, 2) })),
        }),
        "CHAIN_LENGTH",
        "genuine",
      ],
    ]
  it.each(changes)("%s", async (_, change, code, field) => {
    const { session, evidence } = await prepare(world, bad)
    const mark = await world.mark()
    await expectRefused(bad, session, mark, await submit(world, bad, change(evidence)), { code, field })
  })
})

describe("a challenge is live once, for one session of one node", () => {
  it("answered twice, wrongly and then rightly: used up by the failure", async () => {
    const { session, evidence } = await prepare(world, bad)
    const mark = await world.mark()
    const wrong = { ...evidence, claims: { ...evidence.claims, boot: filled(16, 7) } }
    await expectRefused(bad, session, mark, await submit(world, bad, wrong), {
      code: "REPORT_DATA",
      field: "report-data",
    })
    const stale = { code: "STALE", field: "challenge" }
    await expectRefused(bad, session, mark, await submit(world, bad, evidence), stale)
  })

  it("answered rightly twice: the second is nobody's", async () => {
    const other = await playNode(world, "n3")
    const { evidence } = await prepare(world, other)
    expect(await submit(world, other, evidence)).toMatchObject({ kind: "result" })
    const mark = await world.mark()
    const again = await submit(world, other, evidence)
    expect(again).toMatchObject({ kind: "refused", code: "STALE", field: "challenge" })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.refused",
      subject: "n3",
      code: "STALE",
    })
  })

  it("answered by an earlier session's Evidence, grafted ever further", async () => {
    const earlier = await prepare(world, bad)
    const later = await prepare(world, bad)
    const e = earlier.evidence
    const { verifier_nonce, beacon, claims: live } = later.evidence
    let mark = await world.mark()
    const say = async (evidence: NodeEvidence, code: string, field: string) => {
      await expectRefused(bad, later.session, mark, await submit(world, bad, evidence), { code, field })
      mark = await world.mark()
    }
    // As it was: its challenge was replaced by the later hello.
    await say(e, "STALE", "challenge")
    await say({ ...e, verifier_nonce, beacon }, "STALE", "session")

    const third = await prepare(world, bad)
    const names = {
      verifier_nonce: third.evidence.verifier_nonce,
      beacon: third.evidence.beacon,
    }
    await say(
      { ...e, ...names, claims: { ...e.claims, session: third.evidence.claims.session } },
      "NONCE",
      "nonce",
    )
    const fourth = (await prepare(world, bad)).evidence
    await say(
      { ...fourth, claims: { ...fourth.claims, dh_key: live.dh_key }, evidence: e.evidence },
      "REPORT_DATA",
      "report-data",
    )
    await say(fourth, "STALE", "challenge")
  })

  it("answered with another node's Evidence, grafted ever further", async () => {
    const theirs = (await prepare(world, honest)).evidence
    let own = await prepare(world, bad)
    let mark = await world.mark()
    const say = async (evidence: NodeEvidence, code: string, field: string) => {
      await expectRefused(bad, own.session, mark, await submit(world, bad, evidence), { code, field })
      own = await prepare(world, bad)
      mark = await world.mark()
    }
    await say(theirs, "STALE", "challenge")
    const named = () => ({ verifier_nonce: own.evidence.verifier_nonce, beacon: own.evidence.beacon })
    await say({ ...theirs, ...named() }, "STALE", "session")
    const inSession = () => ({ ...theirs.claims, session: own.session.id })
    await say({ ...theirs, ...named(), claims: inSession() }, "NODE", "node")
    await say({ ...own.evidence, evidence: theirs.evidence }, "REPORT_DATA", "report-data")
    // Their challenge is none the worse for it.
    expect(await submit(world, honest, theirs)).toMatchObject({ kind: "result" })
  })

  it("a control plane's report is no node's", async () => {
    const { session, offer, evidence } = await prepare(world, bad)
    const { control } = offer
    const mark = await world.mark()
    const reflected = await submit(world, bad, { ...evidence, evidence: control.evidence })
    await expectRefused(bad, session, mark, reflected, { code: "REPORT_DATA", field: "report-data" })

    // Even if the node's own hardware made it.
    const own = await prepare(world, bad)
    const shown = bad.machine.report(controlReportData(crypto, controlBinding(own.offer.control.claims)))
    const again = await world.mark()
    const reply = await submit(world, bad, {
      ...own.evidence,
      evidence: snpEvidence(shown),
    })
    await expectRefused(bad, own.session, again, reply, { code: "REPORT_DATA", field: "report-data" })
  })
})

describe("hellos", () => {
  const hellos: ReadonlyArray<readonly [string, object, string, string]> = [
    ["of another domain", { domain: "elsewhere" }, "WRONG_DOMAIN", "domain"],
    ["under another node's name", { node: "n1" }, "MISDIRECTED", "node"],
  ]
  it.each(hellos)("%s get no challenge", async (_, change, code, field) => {
    const mark = await world.mark()
    expect(await hello(world, bad, begin(bad), change)).toMatchObject({ kind: "refused", code, field })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.hello.refused",
      subject: "bad",
      code,
      field,
    })
  })

  it("of a node that the workflow doesn't name get none either", async () => {
    const stranger = await playNode(world, "stranger", {
      machine: machine(chipOf(world.root), { measurement: imageOf("source") }),
    })
    const mark = await world.mark()
    const session = begin(stranger)
    expect(await hello(world, stranger, session)).toMatchObject({ kind: "refused", code: "UNKNOWN_NODE" })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.hello.refused",
      subject: "stranger",
      code: "UNKNOWN_NODE",
    })
    await askAnyway(stranger, session)
  })

  it("and all else of another node are denied by the server", async () => {
    const raw = await world.raw("loader", "bad")
    const before = world.captured.length
    const others = [
      "hello.n1",
      "evidence.v1.n1",
      "attest.n1.loader-n1",
      "attest.cp.loader-bad",
      "pull.n1",
      "ack.n1",
    ]
    for (const subject of others) raw.send(`vs.v1.${subject}`, Uint8Array.of(0x80), "_INBOX.loader-bad.x")
    await raw.settle()
    await until("the server's complaints", () => (raw.refused.length >= others.length ? true : undefined))
    expect([...raw.refused].sort()).toEqual(others.map((subject) => `publish vs.v1.${subject}`).sort())
    expect(await raw.maySubscribe("vs.v1.release.n1")).toBe(false)
    expect(await raw.maySubscribe("_INBOX.loader-n1.>")).toBe(false)
    const leaked = world.captured.slice(before).filter(({ data }) => data.length === 1 && data[0] === 0x80)
    expect(leaked).toEqual([])
    await raw.close()
  })

  it("put into a node's mouth by the bus get no answer elsewhere", async () => {
    const sample = world.captured.find(({ subject }) => subject === "vs.v1.hello.n1")
    const mark = await world.mark()
    const inbox = await world.wire.listen("_INBOX.loader-bad.stolen")
    world.wire.send("vs.v1.hello.n1", sample?.data ?? new Uint8Array(0), "_INBOX.loader-bad.stolen")
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.message.refused",
      subject: "vs.v1.hello.n1",
      code: "BAD_REPLY",
    })
    expect(inbox).toEqual([])
  })
})

describe("in the end", () => {
  it("a challenge answered too late is refused", async () => {
    await pause(Math.max(0, limits.challengeMs + 50 - (performance.now() - slow.sinceMs)))
    const mark = await world.mark()
    const reply = await submit(world, slow.node, slow.evidence)
    expect(reply).toMatchObject({ kind: "refused", code: "STALE", field: "challenge" })
    const event = await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.refused",
      subject: "slow",
      code: "STALE",
    })
    expect(event.data.message).toMatch(/older than|not outstanding/)
  })

  it("nobody who was refused has ever got a release, and no service has ended", async () => {
    world.allRun()
    for (const node of refusedNodes) expect(world.sent(`release.${node}`)).toEqual([])
    const events = await world.events()
    const given = events.filter(({ event }) => event.type === "vouchsafe.release.sent")
    expect(given.filter(({ event }) => refusedNodes.includes(event.subject ?? ""))).toEqual([])
    expect(given.length).toBeGreaterThan(0)
    const accepted = events.filter(({ event }) => event.type === "vouchsafe.attestation.accepted")
    expect(accepted.filter(({ event }) => refusedNodes.includes(event.subject ?? ""))).toEqual([])
  })

  it("the very same node, unbent, is accepted and gets one", async () => {
    const mark = await world.mark()
    lives.push(await live(world, bad))
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.accepted",
      subject: "bad",
    })
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.edge.active", subject: "raw:bad:n2" })
    expect(world.sent("release.bad").length).toBeGreaterThan(0)
  })
})
