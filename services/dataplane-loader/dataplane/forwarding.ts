/**
 * Second line behind the programs: the kernel itself must not route between the internal veth and the wire. With
 * forwarding on, and a node whose programs are not attached yet or any more, applications' packets would leave in plain.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { KernelError } from "../../common/kernel/errors.ts"

/**
 * Turns forwarding off for what arrives on a device, IPv4 and IPv6, in this process's network namespace.
 * @throws KernelError INVALID when it stays on
 */
export const forbidForwarding = (device: string): void => {
  for (const path of settings(device)) {
    if (isOff(path)) continue
    try {
      writeFileSync(path, "0")
    } catch {
      // Judged by what it is afterwards.
    }
    if (!isOff(path)) {
      throw new KernelError(
        "forbid forwarding",
        device,
        "INVALID",
        `${path} stays on: write 0 to it, or make /proc/sys writable`,
      )
    }
  }
}

/** Whether the kernel routes what arrives on a device. */
export const forwards = (device: string): boolean => settings(device).some((path) => !isOff(path))

const settings = (device: string): ReadonlyArray<string> =>
  ["ipv4", "ipv6"]
    .map((family) => `/proc/sys/net/${family}/conf/${device}/forwarding`)
    .filter((path) => existsSync(path))

const isOff = (path: string): boolean => readFileSync(path, "utf8").trim() === "0"
