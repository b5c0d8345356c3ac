/**
 * A control plane whose attester, a process of its own, finds its hardware behind configfs-tsm: an imitation of the
 * kernel's files in front of an emulated chip. From there on everything is as it is.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import { launchGuest } from "../../services/evidence/index.ts"
import { attested, claimsOf, playNode } from "../hostile/nodes.ts"
import { CONTROL_IMAGE, chipOf, hex, startWorld, until, type World } from "../hostile/support.ts"
import { certificateTable } from "../support/certificate-table.ts"
import { Fault, TsmKernel } from "../support/tsm-kernel.ts"
import { haveFuse, mountTsm, type TsmMount } from "../support/tsm-mount.ts"

if (!haveFuse)
  console.warn("NO FUSE: the control plane behind configfs-tsm isn't tested (root and /dev/fuse)")

describe.runIf(haveFuse)("a control plane behind configfs-tsm", () => {
  let kernel: TsmKernel
  let mount: TsmMount | undefined
  let world: World | undefined
  /** What the secure processor does before it answers. */
  let before: () => Promise<void> = async () => undefined

  beforeAll(async () => {
    const root = emulatedRoot()
    const chip = chipOf(root)
    const guest = launchGuest(chip, { measurement: CONTROL_IMAGE })
    const [vcek, ask, ark] = chip.certificates
    kernel = new TsmKernel({
      name: "sev_guest",
      floor: 0,
      hasAuxiliary: true,
      make: async (inblob) => {
        await before()
        return { outblob: guest.report(inblob), auxblob: certificateTable({ ark, ask, vcek }) }
      },
    })
    mount = mountTsm(kernel)
    world = await startWorld({
      nodes: [
        { id: "n1", stage: "source" },
        { id: "n2", stage: "transform" },
      ],
      control: {
        demands: {
          roots: [root.hardwareRoot],
          assurance: "emulated",
          platforms: ["sev-snp"],
          sev_snp: {
            measurements: [hex(CONTROL_IMAGE)],
            policy: { debug: false, migration_agent: false, vmpl_max: 0 },
          },
          chips: [{ sev_snp: hex(chip.chipId) }],
        },
        attester: {
          VOUCHSAFE_ATTESTATION: "auto",
          VOUCHSAFE_TSM_DIRECTORY: mount.root,
          VOUCHSAFE_ATTESTATION_TIMEOUT: "2",
        },
      },
    })
  })
  afterAll(async () => {
    before = async () => undefined
    await world?.stop()
    await mount?.stop()
  })

  const inWorld = (): World => {
    if (world === undefined) throw new Error("not started")
    return world
  }

  it("is found without being named, and believed", async () => {
    const here = inWorld()
    const ready = await here.recorded(0, { by: "attester-cp", type: "vouchsafe.service.ready" })
    expect(ready.data).toMatchObject({ platform: "sev-snp", emulated: false })
    const found = await attested(here, await playNode(here, "n1"))
    expect(found.control.control).toBe("cp")
    expect(claimsOf(found).assurance).toBe("emulated")
    expect(kernel.entries.size).toBe(0)
  })

  it("outlives a secure processor that is busy, and one that doesn't answer for a while", async () => {
    const here = inWorld()
    const node = await playNode(here, "n2")
    let busy = 2
    before = async () => {
      if (busy-- > 0) throw new Fault("EBUSY")
    }
    await attested(here, node)
    expect(busy).toBeLessThan(0)
    let hung = 0
    let release = (): void => undefined
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    before = () => {
      hung++
      return released
    }
    await expect(attested(here, node)).rejects.toThrow()
    await expect(attested(here, node)).rejects.toThrow()
    // Nothing was asked beside the call that is out.
    expect(hung).toBe(1)
    release()
    before = async () => undefined
    await until("Evidence again", () => attested(here, node).catch(() => undefined), 30_000)
    here.allRun()
  })
})
