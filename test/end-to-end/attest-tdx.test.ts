/**
 * A node on a TDX machine, through the processes as they are: its attester finds the hardware behind an imitation of the
 * kernel's configfs-tsm, the verifier has the collateral in a folder, the releaser releases, the loader installs. The
 * quotes and all that Intel would sign are a lab's, whose root counts only where it is called emulated.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Demands } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { bodyAt } from "../../services/evidence/tdx/td-report.ts"
import { fmspc, Hierarchy, type QuoteContent } from "../support/tdx-lab.ts"
import { TsmKernel } from "../support/tsm-kernel.ts"
import { haveFuse, mountTsm, type TsmMount } from "../support/tsm-mount.ts"
import {
  allocated,
  endTestLab,
  eventsOf,
  LAB_START_MS,
  startTestLab,
  type TestLab,
  until,
} from "./support.ts"

if (!haveFuse) console.warn("NO FUSE: no node on a TDX machine is tested (root and /dev/fuse)")

const register = (fill: number) => new Uint8Array(48).fill(fill)
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const [mrtd, kernelRegister, bootRegister] = [register(0x4d), register(0x11), register(0x22)]

const tdx: Demands = {
  assurance: "emulated",
  platforms: ["tdx"],
  tdx: {
    mrtd: [hexOf(mrtd)],
    rtmrs: { 1: [hexOf(kernelRegister)], 2: [hexOf(bootRegister)] },
    tcb: { statuses: ["UpToDate"] },
  },
}
/** The one machine that the lab's certificates are of. */
const chip = { tdx: "9d".repeat(16) }
const EDGE = "raw:n1:n2"

describe.runIf(haveFuse)("a node on a TDX machine", () => {
  const intel = new Hierarchy(new Date())
  const folder = mkdtempSync(join(tmpdir(), "vouchsafe-collateral-"))
  /** What the machine is: firmware and family. */
  let machine: { readonly mrtd: Uint8Array; readonly chain?: QuoteContent["chain"] } = {
    mrtd: register(0xff),
  }
  let quotes = 0
  const kernel = new TsmKernel({
    name: "tdx_guest",
    hasAuxiliary: false,
    make: async (inblob) => {
      quotes++
      const { mrtd, chain } = machine
      const change = (td: Uint8Array): void => {
        td.set(inblob, bodyAt.reportData)
        td.set(mrtd, bodyAt.mrTd)
        td.set(kernelRegister, bodyAt.rtmrs + 48)
        td.set(bootRegister, bodyAt.rtmrs + 96)
      }
      return { outblob: intel.quote({ change, ...(chain && { chain }) }) }
    },
  })
  let mount: TsmMount
  let lab: TestLab

  /** n1 sends from the TDX machine to n2. n3 would have to be genuine. */
  const adapt = (workflow: Workflow): Workflow => {
    const { source, transform, sink } = workflow.stages
    if (source === undefined || transform === undefined || sink === undefined) throw new Error("no example")
    const { dataplane } = source
    return {
      ...workflow,
      roots: [...workflow.roots, intel.root],
      stages: {
        source: { ...tdx, dataplane },
        transform,
        sink: { ...tdx, assurance: "hardware", dataplane },
      },
      nodes: workflow.nodes.map((node) => {
        if (node.id === "n1") return { ...node, chip }
        return node.id === "n3" ? { ...node, chip: "any" } : { ...node, stage: "transform" }
      }),
    }
  }

  beforeAll(async () => {
    const { tcbInfo, qeIdentity, rootCrl, pckCrl, tcbSigningChain } = intel.collateral()
    const files = {
      "tcb-info.json": tcbInfo,
      "qe-identity.json": qeIdentity,
      "root-ca-crl.der": rootCrl,
      "pck-crl.der": pckCrl,
      "tcb-signing.der": tcbSigningChain,
      "ca.der": intel.certificate("ca"),
      "root.der": intel.certificate("root"),
    }
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes)
    mount = mountTsm(kernel)
    const attester = { VOUCHSAFE_ATTESTATION: "configfs-tsm", VOUCHSAFE_TSM_DIRECTORY: mount.root }
    lab = await startTestLab({
      adapt,
      heldBack: ["n3", "n4"],
      settings: {
        "attester-n1": attester,
        "attester-n3": attester,
        "verifier-v1": {
          VOUCHSAFE_COLLATERAL: folder,
          VOUCHSAFE_COLLATERAL_EMULATED: intel.root.key_digest,
        },
      },
    })
  }, LAB_START_MS)
  afterAll(async () => {
    await endTestLab(lab)
    await mount?.stop()
    rmSync(folder, { recursive: true, force: true })
  }, 30_000)

  const refused = (node: string, code: string) =>
    until(`${node} refused for ${code}`, 40_000, () => {
      const told = eventsOf(lab, "attestation.refused", node).map(({ event }) => event.data)
      return told.find((data) => data.code === code)
    })
  const isActive = (node: string): boolean =>
    lab.watch.stats
      .get(node)
      ?.edges.some(({ instance, state }) => instance === EDGE && state === "active") === true

  it("is refused by the name of the register, where another firmware was launched", async () => {
    const found = await refused("n1", "MRTD")
    expect(found).toMatchObject({ field: "mrtd", emulated: true, stage: "source", chip })
    expect(found.message).toContain(hexOf(register(0xff)))
    const checks = new Map(found.checks?.map((check) => [check.name, check.result]))
    expect([...checks].filter(([, result]) => result === "failed")).toEqual([["mrtd", "failed"]])
    expect(quotes).toBeGreaterThan(0)
  })

  it("is refused where nothing is known of its family", async () => {
    const other = Uint8Array.from(fmspc, (byte, i) => (i === 5 ? 0x7f : byte))
    machine = { mrtd, chain: intel.chain({ fmspc: other }) }
    const found = await refused("n1", "COLLATERAL_MISSING")
    expect(found).toMatchObject({ field: "genuine" })
    expect(found.message).toContain("collateral.tcbInfo")
    expect(eventsOf(lab, "attestation.accepted", "n1")).toEqual([])
    expect(eventsOf(lab, "node.accepted", "n1")).toEqual([])
    expect(allocated(lab, "n1", "sa_out")).toBe(0)
  })

  it("is vouched for as emulated, gets its keys, installs them and sends", async () => {
    machine = { mrtd }
    await until(
      "the edge, active at both ends",
      40_000,
      () => (isActive("n1") && isActive("n2")) || undefined,
    )
    const [accepted] = eventsOf(lab, "attestation.accepted", "n1")
    expect(accepted?.event.data).toMatchObject({ platform: `tdx ${hexOf(fmspc)}`, emulated: true })
    const named = new Set(accepted?.event.data.checks?.map(({ name }) => name))
    for (const kind of ["tcb-info", "qe-identity", "root-crl", "pck-crl"])
      expect(named).toContain(`collateral-intel-${kind}`)
    // What was sent is told once a second.
    const sent = await until("a release, told", 20_000, () => eventsOf(lab, "release.sent", "n1")[0])
    if (accepted === undefined) throw new Error("a release before a result")
    expect(lab.watch.events.indexOf(sent)).toBeGreaterThan(lab.watch.events.indexOf(accepted))
    expect(allocated(lab, "n1", "sa_out")).toBeGreaterThan(0)
    const address = lab.place("n2").address
    await lab.agent(lab.appNetns("n2")).ask({ op: "tcp-listen", port: 5000 })
    const connect = { op: "tcp-connect", address, port: 5000, timeoutMs: 5_000 } as const
    expect(await lab.agent(lab.appNetns("n1")).ask(connect)).toBe("answered")
  })

  it("is not taken for a genuine one where hardware is demanded", async () => {
    lab.startLoader("n3")
    const found = await refused("n3", "ASSURANCE")
    expect(found).toMatchObject({ emulated: true, stage: "sink" })
    expect(found.message).toContain("emulated")
    expect(eventsOf(lab, "attestation.accepted", "n3")).toEqual([])
    expect(allocated(lab, "n3", "sa_in")).toBe(0)
    await until("the kernel's entries, removed", 5_000, () => kernel.entries.size === 0 || undefined)
  })
})
