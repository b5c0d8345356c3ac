import { constants } from "node:os"

const names = new Map<number, string>([
  [524, "ENOTSUPP"],
  [4001, "LIBBPF_FORMAT"],
])
for (const [name, number] of Object.entries(constants.errno)) if (!names.has(number)) names.set(number, name)

/** The symbolic name of a positive errno, or "errno N" when it has none. */
const errnoName = (errno: number): string => names.get(errno) ?? `errno ${errno}`

const hints: Readonly<Record<string, string>> = {
  EPERM: "this needs root, or CAP_BPF with CAP_NET_ADMIN",
  EACCES: "this needs root; for a program load, the verifier refused it",
  ENOENT: "it does not exist",
  EEXIST: "it exists already",
  E2BIG: "the map is full, or an argument is larger than the kernel knows",
  ENOSPC: "there is no room left",
  ENODEV: "there is no such device in this network namespace",
  ENOSYS: "this kernel has no bpf()",
}

/** A kernel interface refused, or gave something that may not be relied on. Never carries the content of a map. */
export class KernelError extends Error {
  override readonly name = "KernelError"
  /** What was attempted, e.g. "map update". */
  readonly op: string
  /** What it was attempted on: a map's or program's name, a path, a device. */
  readonly subject: string
  /** The kernel's errno by name ("EPERM"), or "INVALID" where the refusal is ours. */
  readonly code: string
  /** What a person can do about it, or the end of the verifier's log. */
  readonly hint: string

  constructor(op: string, subject: string, code: string, hint: string = hints[code] ?? "") {
    super(`${op} ${subject}: ${code}${hint === "" ? "" : `: ${hint}`}`)
    this.op = op
    this.subject = subject
    this.code = code
    this.hint = hint
  }
}

/** A KernelError from a positive errno. */
export const fromErrno = (op: string, subject: string, errno: number, hint?: string): KernelError => {
  const code = errnoName(errno)
  return hint === undefined ? new KernelError(op, subject, code) : new KernelError(op, subject, code, hint)
}

/** A refusal of our own: the kernel's answer, or the caller's argument, may not be relied on. */
export const invalid = (op: string, subject: string, why: string): KernelError =>
  new KernelError(op, subject, "INVALID", why)
