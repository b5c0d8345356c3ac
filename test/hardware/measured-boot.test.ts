/**
 * Computed PCRs against a TPM that a real firmware and a real kernel measured into: Debian's OVMF, kernel and systemd-stub
 * under QEMU (software emulation) with a swtpm. VOUCHSAFE_OVMF and VOUCHSAFE_STUB say where firmware and stub are.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  chainSteps,
  digestsOf,
  directBootSteps,
  readUnifiedImage,
  registerOf,
  type Step,
  secureBootSteps,
  unifiedImages,
  unifiedKernelSteps,
  unifiedSteps,
} from "../../services/evidence/measure/index.ts"

const ovmf = process.env.VOUCHSAFE_OVMF ?? "/usr/share/OVMF"
const stub = process.env.VOUCHSAFE_STUB ?? "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
const kernelName = existsSync("/boot")
  ? readdirSync("/boot").find((name) => name.startsWith("vmlinuz-6.1."))
  : undefined
const kernelPath = join("/boot", kernelName ?? "vmlinuz")

const programs = ["qemu-system-x86_64", "swtpm", "busybox", "cpio"]
const absent = [
  ...programs.filter((program) => spawnSync("which", [program]).status !== 0),
  ...[join(ovmf, "OVMF_CODE_4M.fd"), join(ovmf, "OVMF_VARS_4M.fd"), kernelPath].filter(
    (path) => !existsSync(path),
  ),
]
const canBoot = absent.length === 0
const canUnify = canBoot && existsSync(stub) && spawnSync("which", ["objcopy"]).status === 0
if (!canBoot)
  console.warn(
    `NO BOOT MEASURED: 2 tests skipped, ${absent.join(", ")} missing (apt: ovmf qemu-system-x86 swtpm linux-image-amd64 busybox-static cpio)`,
  )
else if (!canUnify)
  console.warn(
    "NO UNIFIED IMAGE BOOTED: 1 test skipped, systemd's stub or objcopy missing (apt: systemd-boot-efi binutils)",
  )

const commandLine = "console=ttyS0 quiet panic=-1"
const memoryMiB = 1_024

/** Says what the TPM holds, by the kernel's own reading of it. */
const init = `#!/bin/busybox sh
/bin/busybox mount -t sysfs sys /sys
for i in 0 1 2 3 4 5 6 7 8 9 10 11; do
  echo "register $i $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/$i) end"
done
echo registers-told
/bin/busybox poweroff -f
/bin/busybox sleep 60
`

let folder: string
let initrd: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-boot-"))
  const root = join(folder, "root")
  for (const part of ["bin", "sys", "dev"]) mkdirSync(join(root, part), { recursive: true })
  initrd = join(folder, "initrd")
  if (!canBoot) return
  copyFileSync(execFileSync("which", ["busybox"], { encoding: "utf8" }).trim(), join(root, "bin/busybox"))
  writeFileSync(join(root, "init"), init)
  chmodSync(join(root, "init"), 0o755)
  const archive = execFileSync("cpio", ["-o", "-H", "newc", "--quiet"], {
    cwd: root,
    input: ["bin", "bin/busybox", "sys", "dev", "init", ""].join("\n"),
    maxBuffer: 2 ** 26,
  })
  writeFileSync(initrd, archive)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const stopped = (child: ReturnType<typeof spawn>): Promise<void> =>
  new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done()
    else child.once("exit", () => done())
  })

/** Boots once. @returns PCRs in hex, lower case */
const boot = async (name: string, ...args: readonly string[]): Promise<ReadonlyMap<number, string>> => {
  const own = join(folder, name)
  mkdirSync(join(own, "tpm"), { recursive: true })
  const variables = join(own, "variables.fd")
  copyFileSync(join(ovmf, "OVMF_VARS_4M.fd"), variables)
  const socket = join(own, "tpm.sock")
  const tpm = spawn(
    "swtpm",
    [
      "socket",
      "--tpm2",
      "--tpmstate",
      `dir=${join(own, "tpm")}`,
      "--ctrl",
      `type=unixio,path=${socket}`,
      "--terminate",
      "--flags",
      "startup-clear",
    ],
    { stdio: "ignore" },
  )
  let machine: ReturnType<typeof spawn> | undefined
  try {
    for (let tries = 0; !existsSync(socket) && tries < 400; tries++) await sleep(25)
    machine = spawn(
      "qemu-system-x86_64",
      [
        ["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-m", `${memoryMiB}`],
        ["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"],
        ["-drive", `if=pflash,format=raw,readonly=on,file=${join(ovmf, "OVMF_CODE_4M.fd")}`],
        ["-drive", `if=pflash,format=raw,file=${variables}`],
        [
          "-chardev",
          `socket,id=c,path=${socket}`,
          "-tpmdev",
          "emulator,id=t,chardev=c",
          "-device",
          "tpm-crb,tpmdev=t",
        ],
        args,
      ].flat(),
      { stdio: ["ignore", "pipe", "ignore"] },
    )
    let said = ""
    machine.stdout?.on("data", (chunk) => {
      said = (said + chunk).slice(-65_536)
    })
    for (
      let waited = 0;
      waited < 280 && !said.includes("registers-told") && machine.exitCode === null;
      waited++
    )
      await sleep(1_000)
    return new Map(
      [...said.matchAll(/register (\d+) ([0-9A-F]{64}) end/g)].map(([, pcr, value = ""]) => [
        Number(pcr),
        value.toLowerCase(),
      ]),
    )
  } finally {
    for (const child of [machine, tpm]) {
      if (child === undefined) continue
      child.kill("SIGKILL")
      await stopped(child)
    }
  }
}

const register = (steps: readonly Step[] | undefined): string =>
  Buffer.from(registerOf("sha256", steps ?? [])).toString("hex")
const noKeys = register(secureBootSteps("sha256", { SecureBoot: Uint8Array.of(0) }))

describe("PCRs of a boot that nobody has seen before", () => {
  it.runIf(canBoot)(
    "are as computed for a kernel that QEMU gives to OVMF",
    async () => {
      const pcrs = await boot("direct", "-kernel", kernelPath, "-initrd", initrd, "-append", commandLine)
      const computed = directBootSteps("sha256", {
        kernel: new Uint8Array(readFileSync(kernelPath)),
        initrd: digestsOf(new Uint8Array(readFileSync(initrd)), ["sha256"]),
        commandLine,
        memoryBytes: memoryMiB * 2 ** 20,
      })
      expect(pcrs.get(4)).toBe(register(computed.get(4)))
      expect(pcrs.get(9)).toBe(register(computed.get(9)))
      expect(pcrs.get(7)).toBe(noKeys)
    },
    300_000,
  )

  it.runIf(canUnify)(
    "are as computed for a unified kernel image",
    async () => {
      const disk = join(folder, "disk")
      mkdirSync(join(disk, "EFI/BOOT"), { recursive: true })
      const image = join(disk, "EFI/BOOT/BOOTX64.EFI")
      const line = join(folder, "line")
      writeFileSync(line, commandLine)
      const sections = [
        [".cmdline", line, "0x30000"],
        [".linux", kernelPath, "0x2000000"],
        [".initrd", initrd, "0x4000000"],
      ]
      const added = sections.flatMap(([name, path, address]) => [
        ...["--add-section", `${name}=${path}`],
        ...["--change-section-vma", `${name}=${address}`],
      ])
      execFileSync("objcopy", [...added, stub, image])
      const pcrs = await boot(
        "unified",
        ...["-drive", `file=fat:rw:${disk},format=raw,if=none,id=d`, "-device", "virtio-blk-pci,drive=d"],
      )
      const uki = readUnifiedImage(new Uint8Array(readFileSync(image)))
      const images = unifiedImages("sha256", uki)
      // How many options fail before the disk's is the machine's and the firmware's business.
      const chains = [0, 1, 2, 3].map((failed) => register(chainSteps("sha256", images, failed)))
      expect(chains).toContain(pcrs.get(4))
      expect(pcrs.get(9)).toBe(register(unifiedKernelSteps("sha256", uki)))
      expect(pcrs.get(11)).toBe(register(unifiedSteps("sha256", uki)))
      expect(pcrs.get(7)).toBe(noKeys)
    },
    300_000,
  )
})
