/** Can this machine run the lab? Asks before anything is made; each answer is one sentence that says what to do. */
import { execFileSync } from "node:child_process"
import { accessSync, constants, existsSync, statfsSync } from "node:fs"
import { release } from "node:os"
import { delimiter } from "node:path"
import { Attr, closeFd, command, tryBpf } from "../../services/common/kernel/bpf.ts"
import { BPFFS, ensureBpffs } from "../../services/common/kernel/bpffs.ts"
import { probeHooks } from "../../services/common/kernel/links.ts"

/** The machine lacks something. The message is one sentence for the user. */
export class Unfit extends Error {
  override readonly name = "Unfit"
}

export interface Machine {
  readonly kernel: string
  readonly hooks: "tcx" | "clsact"
  /** Whether the BPF file system had to be mounted: then it is for us to unmount it. */
  readonly mountedBpffs: boolean
  /** Whether /run/netns will be made by us. */
  readonly makesNetnsDirectory: boolean
  readonly netcat: string
}

const KERNEL_MIN = [6, 1] as const

/** Whether a kernel release ("6.1.0-50-amd64") is at least `KERNEL_MIN`. */
export const kernelIsSupported = (text: string): boolean => {
  const [major = 0, minor = 0] = text.split(/[.-]/).map(Number)
  return major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1])
}

const find = (program: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((directory) => `${directory}/${program}`)
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

const checkPrograms = (): string => {
  const netcat = find("nc.openbsd") ?? find("nc")
  const absent = [
    "nats-server",
    "ip",
    "ethtool",
    "nsenter",
    "setpriv",
    "bash",
    "tar",
    "gzip",
    "sha256sum",
  ].filter((program) => find(program) === undefined)
  if (netcat === undefined) absent.push("nc")
  if (absent.length > 0 || netcat === undefined) {
    throw new Unfit(
      `these programs are missing: ${absent.join(", ")}; start with \`npm start\`, which installs them.`,
    )
  }
  return netcat
}

const BPF_MAP_TYPE_ARRAY = 2

/** Makes the smallest possible map and lets go of it again. */
const checkBpf = (): void => {
  const fd = tryBpf(
    command.MAP_CREATE,
    new Attr(72).u32(0, BPF_MAP_TYPE_ARRAY).u32(4, 4).u32(8, 4).u32(12, 1),
  )
  if (fd >= 0) {
    closeFd(fd)
    return
  }
  if (fd === -38)
    throw new Unfit("this kernel has no BPF: boot one with CONFIG_BPF_SYSCALL, such as Debian's own.")
  throw new Unfit(
    `the kernel refuses BPF to this process (errno ${-fd}): run it as root of the machine itself, with CAP_BPF and CAP_NET_ADMIN and no seccomp filter on bpf().`,
  )
}

const isBpffsMounted = (): boolean => {
  try {
    return statfsSync(BPFFS).type === 0xcafe4a11
  } catch {
    return false
  }
}

const checkBpffs = (): boolean => {
  if (isBpffsMounted()) return false
  try {
    ensureBpffs()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Unfit(
      `the BPF file system can't be mounted on ${BPFFS} (${why}): mount it there, or run with CAP_SYS_ADMIN.`,
    )
  }
  return true
}

const checkNamespaces = (): void => {
  try {
    execFileSync("unshare", ["--net", "true"], { stdio: "pipe" })
  } catch {
    throw new Unfit(
      "network namespaces can't be created: run with CAP_SYS_ADMIN on a kernel with CONFIG_NET_NS, with the sysctl user.max_net_namespaces above 0.",
    )
  }
}

/** @throws Unfit; what it mounted is unmounted again then */
export const preflight = (): Machine => {
  if (process.platform !== "linux")
    throw new Unfit(`needs Linux (this is ${process.platform}): use a Debian 12 machine.`)
  if (process.getuid?.() !== 0) {
    throw new Unfit(
      "needs root, to load BPF programs and make network namespaces: run it again as root (sudo).",
    )
  }
  const kernel = release()
  if (!kernelIsSupported(kernel)) {
    throw new Unfit(
      `needs Linux ${KERNEL_MIN.join(".")} or newer (this is ${kernel}): boot a newer kernel, such as Debian 12's own.`,
    )
  }
  const netcat = checkPrograms()
  checkBpf()
  checkNamespaces()
  const mountedBpffs = checkBpffs()
  return { kernel, hooks: probeHooks(), mountedBpffs, makesNetnsDirectory: !existsSync("/run/netns"), netcat }
}
