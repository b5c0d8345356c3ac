import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, rmdirSync, statfsSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import { KernelError } from "./errors.ts"

/** Where the BPF filesystem belongs; pinning anywhere else is refused by the kernel. */
export const BPFFS = "/sys/fs/bpf"
const BPF_FS_MAGIC = 0xcafe4a11

const isMounted = (): boolean => {
  try {
    return statfsSync(BPFFS).type === BPF_FS_MAGIC
  } catch {
    return false
  }
}

/** Mounts bpffs on /sys/fs/bpf unless it is there. KernelError when it can't. */
export const ensureBpffs = (): void => {
  if (isMounted()) return
  if (!existsSync(BPFFS))
    throw new KernelError(
      "mount",
      BPFFS,
      "ENOENT",
      "/sys has no fs/bpf: mount sysfs, or a kernel with CONFIG_BPF_SYSCALL",
    )
  try {
    execFileSync("mount", ["-t", "bpf", "-o", "mode=700", "bpf", BPFFS], { stdio: "pipe" })
  } catch (cause) {
    // Two processes may have raced: the loser's error doesn't matter when the mount is there.
    if (isMounted()) return
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim().slice(0, 300) : ""
    throw new KernelError("mount", BPFFS, "EPERM", `mount -t bpf failed: ${said}`)
  }
  if (!isMounted()) throw new KernelError("mount", BPFFS, "EIO", "mounted, but it is not a bpffs")
}

/** Removes a directory of pins with what is below it; absent is fine. What only the pins held alive goes away. */
export const removePins = (directory: string): void => {
  if (!existsSync(directory)) return
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) removePins(path)
    else unlinkSync(path)
  }
  rmdirSync(directory)
}
