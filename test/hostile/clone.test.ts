/** Copies of a running guest: another launch with its memory, and the same one at an earlier moment. They get nothing. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  AttestationResult,
  type AttestNode,
  type AttestRequest,
  type TpmRun,
} from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { answerNode } from "../../services/attester/answer.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, Refused } from "../../services/common/bus/bus.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { Attested, Session } from "../../services/dataplane-loader/session.ts"
import { tpmExtraData } from "../../services/evidence/appraisal/report-data.ts"
import { makeTpm, pcr, tpmPiece } from "../unit/appraisal-support.ts"
import {
  attestSession,
  begin,
  claimsOf,
  type Life,
  live,
  type PlayedNode,
  playNode,
  pullNonce,
  signedPull,
} from "./nodes.ts"
import { decoded, pullIn, releaseIn } from "./rogue.ts"
import {
  bent,
  DATAPLANE,
  filled,
  hex,
  imageOf,
  machine,
  startWorld,
  until,
  type WantedEvent,
  type World,
} from "./support.ts"

const tpm = makeTpm()
/** What the TPM of node `soft` shows; a snapshot of the guest brings an earlier clock back with it. */
const run: TpmRun = { resets: 3, restarts: 1, clock_ms: 5_000_000n, safe: true }
const reportIds = { first: filled(32, 0xa1), second: filled(32, 0xa2) }

let world: World
const nodes = new Map<string, PlayedNode>()
const lives = new Map<string, Life>()
const nodeOf = (id: string): PlayedNode => {
  const node = nodes.get(id)
  if (node === undefined) throw new Error(`no node ${id}`)
  return node
}
const lifeOf = (id: string): Life => {
  const life = lives.get(id)
  if (life === undefined) throw new Error(`${id} doesn't live`)
  return life
}

/** A guest whose only hardware is a TPM: the class where a host can copy memory. */
const softNode = async (name: string, shown: () => TpmRun): Promise<PlayedNode> => {
  const node = await playNode(world, "soft", { attester: false, name })
  const attest = async (data: Uint8Array) => [
    tpmPiece(tpm, { extraData: tpmExtraData(data), pcrs: [pcr(7, 7)], run: shown() }),
  ]
  const about = "a TPM of the test's"
  const device = new DeviceQueue({
    platform: "tpm",
    emulated: true,
    about,
    attest,
    close: async () => undefined,
  })
  Object.assign(node.guest, { device })
  return node
}

const playSoft = async (): Promise<PlayedNode> => {
  const node = await softNode("soft", () => run)
  const bus = await world.bus("attester", "soft")
  const mark = await world.mark()
  world.begin(serveAttester({ role: "node", guest: node.guest }).pipe(Effect.provideService(Bus, bus)))
  await world.recorded(mark, { by: "attester-soft", type: "vouchsafe.workflow.applied" })
  return node
}

beforeAll(async () => {
  world = await startWorld({
    leaseSeconds: 30,
    nodes: [
      { id: "spot", stage: "source" },
      { id: "n2", stage: "transform" },
      { id: "soft", stage: "sink" },
    ],
    adapt: (workflow) => {
      const { sink: _, ...stages } = workflow.stages
      return {
        ...workflow,
        roots: [...workflow.roots, { vendor: "tpm", use: "ak", key_digest: tpm.digest, emulated: true }],
        stages: {
          ...stages,
          sink: {
            assurance: "emulated",
            platforms: ["tpm"],
            tpm: { bank: "sha256", pcrs: { 7: ["07".repeat(32)] } },
            dataplane: [hex(DATAPLANE)],
          },
        },
        nodes: workflow.nodes.map((node) =>
          node.id === "soft" ? { ...node, chip: { tpm: tpm.digest } } : node,
        ),
      }
    },
  })
  const first = machine(world.chip("spot"), { measurement: imageOf("source"), reportId: reportIds.first })
  nodes.set("spot", await playNode(world, "spot", { machine: first }))
  nodes.set("n2", await playNode(world, "n2"))
  nodes.set("soft", await playSoft())
  for (const id of nodes.keys()) lives.set(id, await live(world, nodeOf(id)))
  for (const subject of ["raw:spot:n2", "packed:n2:soft"])
    await world.recorded(0, { by: "releaser-r1", type: "vouchsafe.edge.active", subject }, 60_000)
}, 180_000)
afterAll(() => world?.stop())

/** The clone's own attester answers, not the one on the bus that belongs to the first. */
const attestAlone = (node: PlayedNode, session: Session): Promise<Attested | Refused> => {
  let wanted: AttestNode | undefined
  const bus = bent(node.bus, {
    send: {
      attest: (request: AttestRequest) => {
        if (request.kind === "attest-node") wanted = request
        return request
      },
    },
    reply: {
      attest: () => {
        if (wanted === undefined) throw new Error("nothing was asked")
        return answerNode(node.guest, world.workflow, wanted)
      },
    },
  })
  return attestSession(world, node, session, bus)
}

const refusalOf = (found: Attested | Refused): Refused => {
  if (found instanceof Refused) return found
  throw new Error("was vouched for")
}

/** A verifier that has seen nothing: whatever it vouches for now, the releaser knows better. */
const verifierForgets = async (): Promise<void> => {
  const mark = await world.mark()
  world.kill("verifier", "v1")
  world.again("verifier", "v1")
  await world.recorded(mark, { by: "verifier-v1", type: "vouchsafe.service.ready" }, 60_000)
}

/** Vouched for by a verifier that knows no better; what becomes of its requests at the releaser. */
const asks = async (node: PlayedNode) => {
  const found = await until(
    "a result",
    async () => {
      const session = begin(node)
      const reply = await attestAlone(node, session)
      return reply instanceof Refused ? undefined : { session, reply }
    },
    60_000,
  )
  const { session, reply } = found
  let counter = 0
  const pull = () =>
    world.say(
      `pull.${node.id}`,
      encode(
        Signed,
        signedPull(session.signing, {
          node: node.id,
          session: session.id,
          result: reply.result.signed,
          nonce: pullNonce(++counter),
          kemKey: session.kem.publicKey,
        }),
      ),
    )
  return { session, claims: claimsOf(reply), pull }
}

/** What the releaser says of such requests: it may not have heard yet of the verifier that has begun anew. */
const refusedPull = (pull: () => void, wanted: Omit<WantedEvent, "by" | "type">) =>
  world.insist({ by: "releaser-r1", type: "vouchsafe.pull.refused", ...wanted }, pull)

const sessionsTold = (id: string): ReadonlyArray<string> =>
  world.sent(`release.${id}`).map((data) => hex(releaseIn(data).session))
const retired = (): number =>
  [...lives.values()].flatMap(({ log }) => log.filter((line) => /^(retire|revoke)/.test(line))).length
const endedSince = async (after: number): Promise<readonly string[]> =>
  (await world.events())
    .filter(({ sequence }) => sequence > after)
    .map(({ event }) => event.type)
    .filter((type) => /withdrawn|stopped|revoked/.test(type))

/** The incumbent asks, and is answered, as if nothing had been. */
const goesOn = async (id: string): Promise<void> => {
  const before = sessionsTold(id).length
  await until(`${id}'s next release`, () => (sessionsTold(id).length > before ? true : undefined), 60_000)
}

describe("a result", () => {
  it("carries what identifies this run of the machine", () => {
    const shown = (id: string) => {
      const pull = pullIn(world.sent(`pull.${id}`).at(-1) ?? new Uint8Array(0))
      return decoded(AttestationResult, pull.result.body).launch
    }
    expect(shown("spot")).toEqual({ report_id: reportIds.first, report_id_ma: filled(32, 0xff) })
    expect(shown("soft")).toEqual({ tpm: run })
  })
})

const earlier = { ...run, clock_ms: run.clock_ms - 60_000n }
let ofSnapshot: TpmRun = earlier
let copy: PlayedNode
/** While the verifier still knows the node: others begin it anew. */
describe("a snapshot of a guest that has gone on since", () => {
  beforeAll(async () => {
    copy = await softNode("copy", () => ofSnapshot)
    copy.boot = nodeOf("soft").boot
  })

  it("gets no result from a verifier that knows the node, and takes nothing from it", async () => {
    const mark = await world.mark()
    const before = retired()
    expect(refusalOf(await attestAlone(copy, begin(copy)))).toMatchObject({
      code: "ROLLED_BACK",
      field: "launch",
    })
    const wanted = { type: "vouchsafe.attestation.refused", subject: "soft", code: "ROLLED_BACK" }
    const { data } = await world.recorded(mark, { by: "verifier-v1", ...wanted })
    for (const { clock_ms } of [run, earlier]) expect(data.message).toContain(`clock ${clock_ms}`)
    await goesOn("soft")
    expect(await endedSince(mark)).toEqual([])
    expect(retired()).toBe(before)
  })
})

describe("a clone: the chip, the image and the boot id of a node, in another launch", () => {
  let clone: PlayedNode
  beforeAll(async () => {
    const second = machine(world.chip("spot"), { measurement: imageOf("source"), reportId: reportIds.second })
    clone = await playNode(world, "spot", { attester: false, name: "clone", machine: second })
    clone.boot = nodeOf("spot").boot
  })

  it("gets no result from a verifier that knows the node, and takes nothing from it", async () => {
    const mark = await world.mark()
    const before = retired()
    expect(refusalOf(await attestAlone(clone, begin(clone)))).toMatchObject({
      code: "CLONED",
      field: "launch",
    })
    const wanted = { type: "vouchsafe.attestation.refused", subject: "spot", code: "CLONED", field: "launch" }
    const { data } = await world.recorded(mark, { by: "verifier-v1", ...wanted })
    for (const id of Object.values(reportIds)) expect(data.message).toContain(hex(id))
    await goesOn("spot")
    expect(await endedSince(mark)).toEqual([])
    expect(retired()).toBe(before)
  })

  it("gets no release on the word of one that doesn't, also when the node itself is silent", async () => {
    await lifeOf("spot").stop()
    await verifierForgets()
    const { session, pull } = await asks(clone)
    const wanted = { subject: "spot", code: "CLONED", field: "launch.report_id" }
    const { data } = await refusedPull(pull, wanted)
    for (const id of Object.values(reportIds)) expect(data.message).toContain(hex(id))
    expect(sessionsTold("spot")).not.toContain(hex(session.id))
  })

  it("may have the place as what it is: a guest that has booted anew", async () => {
    clone.boot = filled(16, 0xb2)
    const { session, pull } = await asks(clone)
    await until(
      "a release",
      () => {
        pull()
        return sessionsTold("spot").find((one) => one === hex(session.id))
      },
      60_000,
    )
  })
})

describe("a snapshot, when nobody but the releaser remembers", () => {
  it("gets no release on the word of one that doesn't, also when the node itself is silent", async () => {
    await lifeOf("soft").stop()
    await verifierForgets()
    const { session, pull } = await asks(copy)
    const wanted = { subject: "soft", code: "ROLLED_BACK", field: "launch.tpm.clock_ms" }
    const { data } = await refusedPull(pull, wanted)
    for (const { clock_ms } of [run, earlier]) expect(data.message).toContain(`clock ${clock_ms}`)
    expect(sessionsTold("soft")).not.toContain(hex(session.id))
  })

  it("nor one that was brought up on a TPM that has been reset since", async () => {
    await verifierForgets()
    ofSnapshot = { ...run, resets: run.resets + 1, clock_ms: run.clock_ms + 90_000n }
    const { session, pull } = await asks(copy)
    await refusedPull(pull, { subject: "soft", code: "CLONED", field: "launch.tpm.resets" })
    expect(sessionsTold("soft")).not.toContain(hex(session.id))
  })
})
