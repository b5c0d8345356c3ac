/**
 * A process that crashes leaves no image of its memory on a disk: there would be keys in it. The limit holds for files; those
 * who collect images through a pipe are told it, and systemd's keeps to it.
 */
import koffi from "koffi"

const RLIMIT_CORE = 4
const THIS_PROCESS = 0
/** `struct rlimit64`: what holds now, and what it may be raised to. */
const NONE = new Uint8Array(16)

/** To be called before there are keys. @throws Error where the kernel refuses, which lowering a limit of one's own gives no cause for */
export const forbidDumps = (): void => {
  const prlimit: (pid: number, resource: number, next: Uint8Array, before: null) => number = koffi
    .load("libc.so.6")
    .func("int prlimit64(int pid, int resource, const void *next, void *before)")
  if (prlimit(THIS_PROCESS, RLIMIT_CORE, NONE, null) !== 0)
    throw new Error("can't keep its memory out of crash dumps: the kernel refuses the limit")
}
