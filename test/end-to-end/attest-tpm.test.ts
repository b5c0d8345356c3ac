/**
 * Nodes and a control plane whose Evidence comes from a TPM (swtpm), through the services as they are: attester, verifier,
 * release. And what doesn't get through.
 */
import { createHash } from "node:crypto"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { HardwareRoot, Tpm } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, Refused } from "../../services/common/bus/bus.ts"
import type { Attested } from "../../services/dataplane-loader/session.ts"
import { type AttestationProvider, combined, tpm } from "../../services/evidence/providers/index.ts"
import {
  attested,
  attestSession,
  begin,
  claimsOf,
  enrolledMachine,
  live,
  type PlayedNode,
  playNode,
} from "../hostile/nodes.ts"
import { DATAPLANE, hex, startWorld, until, type World } from "../hostile/support.ts"
import { snpEvidence } from "../support/evidence-pieces.ts"
import {
  type CertifiedAk,
  certifyAk,
  haveOpenssl,
  haveSoftwareTpm,
  type SoftwareTpm,
  startSoftwareTpm,
} from "../support/software-tpm.ts"

const haveAll = haveSoftwareTpm && haveOpenssl
if (!haveAll) console.warn("NO NODE WITH A TPM TESTED: needs swtpm and openssl (apt: swtpm openssl)")

/** What stands for a measured boot: one extension of PCR 16. */
const booted = new Uint8Array(32).fill(0x42)
const pcr16 = createHash("sha256").update(new Uint8Array(32)).update(booted).digest("hex")
const demands: Tpm = { bank: "sha256", pcrs: { 16: [pcr16] } }

interface TpmMachine {
  readonly tpm: SoftwareTpm
  readonly ca: CertifiedAk
  /** SHA-256 of the key, hex: who it is in a workflow. */
  readonly chip: string
}

const newMachine = async (): Promise<TpmMachine> => {
  const machine = await startSoftwareTpm()
  return machine.prepare(async (device, { extend }) => {
    const ak = await device.createAk("ecdsa-p256")
    await extend(16, booted)
    await device.flush(ak.handle)
    const chip = createHash("sha256").update(ak.public.key.spki).digest("hex")
    return { tpm: machine, ca: certifyAk(machine.directory, ak.public), chip }
  })
}

const providerOf = ({ tpm: { socket }, ca }: TpmMachine): Promise<AttestationProvider> =>
  tpm({
    device: socket,
    timeoutMs: 2_000,
    securityDirectory: "/proc/nonexistent",
    certificates: [
      { from: "file", path: ca.leafFile },
      { from: "file", path: ca.issuerFile },
    ],
  })

const issuer = (machine: TpmMachine, emulated = false): HardwareRoot => ({
  vendor: "tpm",
  use: "issuer",
  key_digest: machine.ca.issuerDigest,
  emulated,
})

describe.runIf(haveAll)("a node with a TPM", () => {
  let world: World
  /** n1 has nothing but its TPM; n2 is an emulated guest; n3 both; the other TPM is nobody's. */
  let alone: TpmMachine
  let beside: TpmMachine
  let other: TpmMachine
  const closing: Array<() => Promise<unknown>> = []

  beforeAll(async () => {
    alone = await newMachine()
    beside = await newMachine()
    other = await newMachine()
    for (const { tpm } of [alone, beside, other]) closing.push(() => tpm.stop())
    const adapt = (workflow: Workflow): Workflow => {
      const { source, sink } = workflow.stages
      if (source === undefined || sink === undefined) throw new Error("another workflow")
      return {
        ...workflow,
        roots: [...workflow.roots, issuer(alone), issuer(beside), issuer(other)],
        stages: {
          ...workflow.stages,
          source: { assurance: "tpm-only", platforms: ["tpm"], tpm: demands, dataplane: [hex(DATAPLANE)] },
          sink: { ...sink, platforms: ["sev-snp+tpm"], tpm: demands },
        },
        nodes: workflow.nodes.map((node) => {
          if (node.id === "n1") return { ...node, chip: { tpm: alone.chip } }
          if (node.id === "n3" && typeof node.chip !== "string")
            return { ...node, chip: { ...node.chip, tpm: beside.chip } }
          return node
        }),
      }
    }
    world = await startWorld({
      nodes: [
        { id: "n1", stage: "source" },
        { id: "n2", stage: "transform" },
        { id: "n3", stage: "sink" },
      ],
      adapt,
    })
    closing.unshift(() => world.stop())
  })
  afterAll(async () => {
    for (const close of closing) await close()
  })

  /** The node's attester, over this hardware. */
  const attesting = async (id: string, provider: AttestationProvider, name = id) => {
    const node = await playNode(world, id, { attester: false, name })
    const bus = await world.bus("attester", id)
    const mark = await world.mark()
    const guest = { ...node.guest, device: new DeviceQueue(provider, { timeoutMs: 4_000 }) }
    const stop = world.begin(serveAttester({ role: "node", guest }).pipe(Effect.provideService(Bus, bus)))
    const ready = await world.recorded(mark, { by: `attester-${id}`, type: "vouchsafe.service.ready" })
    await world.recorded(mark, { by: `attester-${id}`, type: "vouchsafe.workflow.applied" })
    return { node, ready, stop }
  }

  const refusalOf = (found: Attested | Refused): { code: string; field: string; message: string } => {
    if (!(found instanceof Refused)) throw new Error("was vouched for")
    return found
  }
  const tryOnce = async (node: PlayedNode) => refusalOf(await attestSession(world, node, begin(node)))

  it("is vouched for as no more than that, and gets its keys", async () => {
    const provider = await providerOf(alone)
    const { node, ready, stop } = await attesting("n1", provider)
    expect(ready.data).toMatchObject({ platform: "tpm", emulated: true })
    const result = claimsOf(await attested(world, node))
    expect(result).toMatchObject({ node: "n1", assurance: "tpm-only" })
    expect(result.platform).toMatch(/tpm/i)
    const peer = await playNode(world, "n2")
    const lives = [await live(world, node), await live(world, peer)]
    try {
      for (const { log } of lives)
        await until(
          "an installed association",
          () => log.find((line) => line.includes("outbound edge")),
          30_000,
        )
      expect([...(lives[0]?.keys ?? [])].some((key) => lives[1]?.keys.has(key))).toBe(true)
    } finally {
      for (const one of lives) await one.stop()
      await stop()
      await provider.close()
    }
  })

  it("beside a guest's report is vouched for with both", async () => {
    const snp: AttestationProvider = {
      platform: "sev-snp",
      emulated: true,
      about: "the enrolled guest",
      attest: async (data) => snpEvidence(enrolledMachine(world, "n3").report(data)).pieces,
      close: async () => undefined,
    }
    const provider = combined([snp, await providerOf(beside)])
    const { node, ready, stop } = await attesting("n3", provider)
    expect(ready.data).toMatchObject({ platform: "sev-snp+tpm", emulated: true })
    expect(claimsOf(await attested(world, node))).toMatchObject({ node: "n3", assurance: "emulated" })
    await stop()
    await provider.close()

    const alone = await attesting("n3", snp, "n3-without-tpm")
    expect(await tryOnce(alone.node)).toMatchObject({ code: "PLATFORM" })
    await alone.stop()

    const foreign = combined([snp, await providerOf(other)])
    const mixed = await attesting("n3", foreign, "n3-with-another-tpm")
    expect(await tryOnce(mixed.node)).toMatchObject({ code: "CHIP_ID" })
    await mixed.stop()
    await foreign.close()
  })

  it("is refused with another TPM, however well certified", async () => {
    const provider = await providerOf(other)
    const { node, stop } = await attesting("n1", provider, "n1-elsewhere")
    expect(await tryOnce(node)).toMatchObject({ code: "CHIP_ID" })
    await stop()
    await provider.close()
  })

  it("is told when its TPM doesn't answer, and served when it does again", async () => {
    const provider = await providerOf(alone)
    const { node, stop } = await attesting("n1", provider, "n1-slow")
    await attested(world, node)
    alone.tpm.signal("SIGSTOP")
    expect(await tryOnce(node)).toMatchObject({ code: "DEVICE_TPM_TIMEOUT", field: "device" })
    alone.tpm.signal("SIGCONT")
    await until(
      "Evidence again",
      async () => {
        const found = await attestSession(world, node, begin(node))
        return found instanceof Refused ? undefined : found
      },
      30_000,
    )
    await stop()
    await provider.close()
  })

  it("is refused once something else was booted", async () => {
    const provider = await providerOf(alone)
    const { node, stop } = await attesting("n1", provider, "n1-changed")
    await attested(world, node)
    await provider.close()
    await alone.tpm.prepare((_, { extend }) => extend(16, new Uint8Array(32).fill(7)))
    expect(await tryOnce(node)).toMatchObject({ code: "TPM_PCR_16" })
    await stop()
    await provider.close()
  })
})

describe.runIf(haveAll)("a control plane with a TPM", () => {
  let world: World | undefined
  let machine: TpmMachine | undefined
  afterAll(async () => {
    await world?.stop()
    await machine?.tpm.stop()
  })

  it("is believed by nodes whose anchors name its key, its attester being a process of its own", async () => {
    machine = await newMachine()
    world = await startWorld({
      nodes: [{ id: "n1", stage: "source" }],
      control: {
        demands: {
          roots: [issuer(machine)],
          assurance: "tpm-only",
          platforms: ["tpm"],
          tpm: demands,
          chips: [{ tpm: machine.chip }],
        },
        attester: {
          VOUCHSAFE_ATTESTATION: "auto",
          VOUCHSAFE_TSM_DIRECTORY: "/proc/nonexistent/report",
          VOUCHSAFE_TPM_DEVICE: machine.tpm.socket,
          VOUCHSAFE_TPM_AK_CERTIFICATES: `${machine.ca.leafFile},${machine.ca.issuerFile}`,
          VOUCHSAFE_EVENT_LOGS: "none",
        },
      },
    })
    const ready = await world.recorded(0, { by: "attester-cp", type: "vouchsafe.service.ready" })
    expect(ready.data).toMatchObject({ platform: "tpm", emulated: true })
    const node = await playNode(world, "n1")
    expect((await attested(world, node)).control.control).toBe("cp")
    world.allRun()
  })
})
