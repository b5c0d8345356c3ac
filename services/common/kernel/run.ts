import { execFileSync } from "node:child_process"
import { KernelError } from "./errors.ts"

/** System directories only: the caller's PATH and environment have no say in what is believed about the kernel. */
const environment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" }

/** Runs a system tool in this process's namespaces and gives what it printed. KernelError when it fails. */
export const run = (tool: string, args: ReadonlyArray<string>): string => {
  try {
    return execFileSync(tool, args, {
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      timeout: 10_000,
      maxBuffer: 1 << 20,
    })
  } catch (cause) {
    const code =
      cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "EIO"
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim().slice(0, 300) : ""
    throw new KernelError(
      "run",
      `${tool} ${args.join(" ")}`,
      code,
      code === "ENOENT" ? "install iproute2" : said,
    )
  }
}
