/** A node that is pinned to its TPM's endorsement key: real services, a software TPM each for the node and for others. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Endorsement, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, Refused } from "../../services/common/bus/bus.ts"
import { writeEndorsement } from "../../services/common/config/guest-keys.ts"
import { type AttestationProvider, tpm } from "../../services/evidence/providers/index.ts"
import { parsePublic } from "../../services/evidence/tpm/index.ts"
import { activationProof } from "../../services/make/activation.ts"
import {
  answer,
  attestSession,
  begin,
  claimsOf,
  hello,
  live,
  offerFor,
  type PlayedNode,
  playNode,
  submit,
} from "../hostile/nodes.ts"
import { crypto, DATAPLANE, filled, flipped, hex, startWorld, type World } from "../hostile/support.ts"
import { haveSoftwareTpm, type SoftwareTpm, startSoftwareTpm } from "../support/software-tpm.ts"

if (!haveSoftwareTpm) console.warn("NO ENDORSEMENT KEY TESTED: swtpm isn't installed (apt: swtpm)")

describe.runIf(haveSoftwareTpm)("a node that is pinned to an endorsement key", () => {
  const machines: SoftwareTpm[] = []
  const providers: AttestationProvider[] = []
  let world: World
  let node: PlayedNode
  let own: Endorsement
  let foreign: Endorsement
  /** Whose TPM the node's attester asks. */
  let current: AttestationProvider
  /** Another one that opens credentials, if not the same. */
  let opener: AttestationProvider | undefined

  const open = async (kind: "rsa-2048" | "ecc-p256"): Promise<AttestationProvider> => {
    const machine = await startSoftwareTpm()
    machines.push(machine)
    const provider = await tpm({
      device: machine.socket,
      securityDirectory: "/proc/nonexistent",
      selection: [{ bank: "sha256", pcrs: [16] }],
      ek: { from: "seed", kind },
    })
    providers.push(provider)
    return provider
  }
  const keysOf = ({ endorsement }: AttestationProvider): Endorsement => {
    if (endorsement === undefined) throw new Error("no endorsement key")
    return endorsement.keys
  }
  const digestOf = ({ ek }: Endorsement): string => hex(crypto.sha256(parsePublic(ek, "ek").key.spki))

  beforeAll(async () => {
    const mine = await open("ecc-p256")
    own = keysOf(mine)
    foreign = keysOf(await open("rsa-2048"))
    current = mine
    const digest = digestOf(own)
    world = await startWorld({
      leaseSeconds: 30,
      nodes: [
        { id: "n2", stage: "transform" },
        { id: "soft", stage: "sink" },
      ],
      adapt: (workflow) => ({
        ...workflow,
        roots: [
          ...workflow.roots,
          ...[own, foreign].map((keys) => ({
            vendor: "tpm" as const,
            use: "ek" as const,
            key_digest: digestOf(keys),
            emulated: true,
          })),
        ],
        stages: {
          ...workflow.stages,
          sink: {
            assurance: "emulated",
            platforms: ["tpm"],
            tpm: { bank: "sha256", pcrs: { 16: ["00".repeat(32)] } },
            dataplane: [hex(DATAPLANE)],
          },
        },
        nodes: workflow.nodes.map((one) => (one.id === "soft" ? { ...one, chip: { tpm_ek: digest } } : one)),
      }),
    })
    node = await playNode(world, "soft", { attester: false })
    const device = new DeviceQueue({
      platform: "tpm",
      emulated: true,
      about: "a TPM of the test's choice",
      attest: (data) => current.attest(data),
      endorsement: {
        keys: own,
        activate: (credential) => {
          const { endorsement } = opener ?? current
          if (endorsement === undefined) throw new Error("no endorsement key")
          return endorsement.activate(credential)
        },
      },
      close: async () => undefined,
    })
    Object.assign(node.guest, { device })
    const bus = await world.bus("attester", "soft")
    const mark = await world.mark()
    world.begin(serveAttester({ role: "node", guest: node.guest }).pipe(Effect.provideService(Bus, bus)))
    await world.recorded(mark, { by: "attester-soft", type: "vouchsafe.workflow.applied" })
  }, 180_000)
  afterAll(async () => {
    await world?.stop()
    for (const provider of providers) await provider.close()
    for (const machine of machines) await machine.stop()
  })

  /** What comes of an attestation with these keys in the hello, by this TPM. */
  const tried = async (
    keys: Endorsement | undefined,
    by: AttestationProvider | undefined = providers[0],
  ): Promise<string> => {
    writeEndorsement(node.runDirectory, keys)
    if (by !== undefined) current = by
    const found = await attestSession(world, node, begin(node))
    return found instanceof Refused ? `${found.code} ${found.field}` : hex(claimsOf(found).chip)
  }

  const prepared = async (): Promise<NodeEvidence> => {
    writeEndorsement(node.runDirectory, own)
    current = providers[0] ?? current
    const session = begin(node)
    const reply = await hello(world, node, session, { endorsement: own })
    if (reply.kind !== "offer") throw new Error(`no offer: ${reply.code}`)
    return answer(world, node, session, reply)
  }

  it("is vouched for by it, and gets keys", async () => {
    expect(await tried(own)).toBe(digestOf(own))
    await live(world, node)
    await live(world, await playNode(world, "n2"))
    const wanted = { by: "releaser-r1", type: "vouchsafe.edge.active", subject: "packed:n2:soft" }
    await world.recorded(0, wanted, 60_000)
  })

  it("is refused without it, though its attestation key is the same", async () => {
    expect(await tried(undefined)).toBe("CHIP_ID chip-id")
    const session = begin(node)
    const offer = await offerFor(world, node, session)
    expect(await submit(world, node, await answer(world, node, session, offer))).toMatchObject({
      code: "CHIP_ID",
    })
  })

  it("can't be played by another TPM, by any mixture of keys", async () => {
    const [, other] = providers
    // Its own keys: another machine, and no more than that.
    expect(await tried(foreign, other)).toBe("CHIP_ID chip-id")
    // The node's keys: it can't open what was made for them.
    expect(await tried(own, other)).toBe("DEVICE_TPM_REFUSED device")
    expect(await tried({ ek: own.ek, ak: foreign.ak }, other)).toBe("DEVICE_TPM_REFUSED device")
    // Nor does the node's TPM open it for a key that isn't its own.
    expect(await tried({ ek: own.ek, ak: foreign.ak })).toBe("DEVICE_TPM_REFUSED device")
    // Nor another for a key that isn't in it.
    expect(await tried({ ek: foreign.ek, ak: own.ak }, other)).toBe("DEVICE_TPM_REFUSED device")
    // The node's TPM opens it, and another one makes the quote.
    opener = providers[0]
    expect(await tried(own, other)).toBe("CHIP_ID chip-id")
    opener = undefined
    expect(await tried(own)).toBe(digestOf(own))
  })

  it("takes a proof once, for these very keys and this challenge", async () => {
    const mark = await world.mark()
    const stripped = { ...(await prepared()) }
    delete (stripped as { activation?: Uint8Array }).activation
    expect(await submit(world, node, stripped)).toMatchObject({ code: "ACTIVATION" })

    const evidence = await prepared()
    const proof = evidence.activation ?? new Uint8Array(0)
    const bent = { ...(await prepared()), activation: flipped(proof) }
    expect(await submit(world, node, bent)).toMatchObject({ code: "ACTIVATION" })
    const replayed = { ...(await prepared()), activation: proof }
    expect(await submit(world, node, replayed)).toMatchObject({ code: "ACTIVATION" })

    const used = await prepared()
    expect(await submit(world, node, used)).toMatchObject({ kind: "result" })
    expect(await submit(world, node, used)).toMatchObject({ code: "STALE" })
    const events = (await world.events()).filter(({ sequence }) => sequence > mark)
    // What the bus can do to a message takes nothing from the node.
    expect(events.filter(({ event }) => event.type === "vouchsafe.attestation.withdrawn")).toEqual([])
  })

  it("is refused with keys that are none, before any challenge", async () => {
    const session = begin(node)
    for (const endorsement of [
      { ek: filled(10, 1), ak: own.ak },
      { ek: own.ek, ak: new Uint8Array(0) },
      { ek: own.ak, ak: own.ak },
      { ek: own.ek, ak: own.ek },
    ])
      expect(await hello(world, node, session, { endorsement })).toMatchObject({
        kind: "refused",
        code: "MALFORMED",
      })
  })
})

describe("the proof of an activation", () => {
  it("is of one secret and one report data", () => {
    const proof = activationProof(crypto, filled(32, 1), filled(64, 2))
    expect(proof).toHaveLength(32)
    expect(activationProof(crypto, filled(32, 1), filled(64, 3))).not.toEqual(proof)
    expect(activationProof(crypto, filled(32, 2), filled(64, 2))).not.toEqual(proof)
  })
})
