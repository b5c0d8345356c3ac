/** What the AEAD bench compares with: our programs without a cipher, and OpenSSL's cipher without our programs. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const clang = process.env.CLANG ?? "clang-16"
const arch = process.arch === "arm64" ? "aarch64" : "x86_64"

/** Compiles the product's programs with bpf/bench/null-aead.h in place of bpf/aead.h; gives the object's path. */
export const buildNullObject = (directory: string): string => {
  const out = `${directory}/null.bpf.o`
  const flags = [
    "-O2",
    "-g",
    "-target",
    "bpf",
    "-mcpu=v3",
    "-fno-strict-aliasing",
    `-I/usr/include/${arch}-linux-gnu`,
  ]
  const instead = ["-DVS_AEAD_H", "-I", path("../../bpf"), "-include", path("../../bpf/bench/null-aead.h")]
  execFileSync(clang, [...flags, ...instead, "-c", path("../../bpf/vouchsafe.bpf.c"), "-o", out], {
    stdio: "pipe",
  })
  return out
}

/** Compiles bpf/bench/openssl.c against the installed libcrypto; gives the program's path. */
export const buildOpenssl = (directory: string): string => {
  const out = `${directory}/openssl`
  execFileSync(clang, ["-O2", path("../../bpf/bench/openssl.c"), "-o", out, "-l:libcrypto.so.3"], {
    stdio: "pipe",
  })
  return out
}

export interface OpensslTimes {
  /** ns for a whole packet: nonce, associated data, text, tag. */
  readonly packet: number
  /** ns for the text alone, as part of an endless message. */
  readonly endless: number
}

/** A running bpf/bench/openssl.c: `version`, and medians of `count` packets of a size. */
export class Openssl {
  readonly version: string
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, version: string) {
    this.#child = child
    this.#lines = lines
    this.version = version
  }

  /** `scalar` turns off every extension of the instruction set. */
  static async start(program: string, scalar: boolean): Promise<Openssl> {
    const env = { ...process.env, ...(scalar && { OPENSSL_ia32cap: "0x0:0x0" }) }
    const child = spawn(program, { env, stdio: ["pipe", "pipe", "inherit"] })
    if (child.stdout === null) throw new Error("openssl: no output")
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return new Openssl(child, lines, String((await lines.next()).value))
  }

  async time(size: number, count: number): Promise<OpensslTimes> {
    this.#child.stdin?.write(`${size} ${count}\n`)
    const { value, done } = await this.#lines.next()
    const [packet, endless] = done === true ? [] : String(value).split(" ").map(Number)
    if (packet === undefined || endless === undefined) throw new Error("openssl ended early")
    return { packet, endless }
  }

  close(): void {
    this.#child.stdin?.end()
  }
}
