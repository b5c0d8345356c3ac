/** ioctl(2) for calls that may wait: made by another thread, so that the event loop goes on. */
import { constants } from "node:os"
import koffi from "koffi"

/**
 * @param argument a structure that lies where the collector moves nothing, as does what it points to; the caller holds both
 *   until the promise settles
 * @returns the result, or -errno
 */
export type Ioctl = (fd: number, request: number, argument: Uint8Array) => Promise<number>

let call: ReturnType<ReturnType<typeof koffi.load>["func"]> | undefined

export const ioctl: Ioctl = (fd, request, argument) =>
  new Promise((resolve, reject) => {
    call ??= koffi.load("libc.so.6").func("int ioctl(int fd, unsigned long request, void *argument)")
    call.async(fd, request, argument, (error: unknown, result: unknown) => {
      if (error !== null && error !== undefined) reject(error)
      else resolve(Number(result) < 0 ? -koffi.errno() : Number(result))
    })
  })

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))

/** Of a positive errno. */
export const nameOfErrno = (errno: number): string => names.get(errno) ?? `errno ${errno}`

/** Where `bytes` lie. */
export const addressOf = (bytes: Uint8Array): bigint => koffi.address(bytes)
