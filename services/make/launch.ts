/**
 * What tells one run of a machine from another beside its chip and its boot id. A clone has the boot id too, and all the
 * keys and random numbers in its memory; what hardware says of the launch it can't copy. SNP gives each launch a REPORT_ID.
 * A TPM counts its resets and restarts, and its clock never runs back between two resets. TDX has nothing of that kind.
 *
 * A book remembers what each of a node's boots has shown, and takes nothing that contradicts it. Pure; times are ms of one
 * monotonic clock of whoever keeps the book.
 */
import { limits } from "../../schemas/limits.ts"
import type { Launch, TpmRun } from "../../schemas/messages/attestation.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { MakeError } from "./errors.ts"

/** One attestation, as a result or an appraisal tells of it. */
export interface Shown {
  readonly node: string
  readonly boot: Uint8Array
  readonly launch: Launch
}

interface Known {
  readonly boot: Uint8Array
  /** All parts that were ever shown, each as it was last. */
  readonly launch: Launch
  /** When the TPM's part was. */
  readonly tpmAtMs: number
}

const BOOTS_REMEMBERED = 16

/** `restarts` may be shifted by a secret of the TPM's: it is a number modulo 2^32. */
const wentBack = (before: number, now: number): boolean => (now - before) >>> 0 >= 2 ** 31

/**
 * A machine with both kinds may show one of them alone where its stage takes that: nothing binds a node's pieces together, and
 * the bus can take one away. What isn't there contradicts nothing then; else one message less would be a node's last.
 */
const isApart = (before: Launch, now: Launch): boolean => {
  const isTpmAlone = ({ report_id, tpm }: Launch) => report_id === undefined && tpm !== undefined
  return (
    (isTpmAlone(now) && before.report_id !== undefined) || (isTpmAlone(before) && now.report_id !== undefined)
  )
}

export class LaunchBook {
  readonly #crypto: Crypto
  /** Newest boot first. */
  readonly #known = new Map<string, ReadonlyArray<Known>>()

  constructor(crypto: Crypto) {
    this.#crypto = crypto
  }

  /**
   * @param askedMs when what this answers was made: it is no older than that
   * @throws MakeError CLONED for another launch in a known boot; ROLLED_BACK for an earlier moment of the launch; STALE for
   *   one that may only have been on its way for long
   */
  expect({ node, boot, launch }: Shown, askedMs: number): void {
    const known = this.#known.get(node)?.find((one) => this.#same(one.boot, boot))
    if (known === undefined) return
    if (!isApart(known.launch, launch))
      for (const part of ["report_id", "report_id_ma"] as const)
        this.#expectSame(boot, part, known.launch[part], launch[part])
    this.#expectLater(known, launch, askedMs)
  }

  /** Holds for all that comes after it. What was expected only. */
  know({ node, boot, launch }: Shown, nowMs: number): void {
    const all = this.#known.get(node) ?? []
    const before = all.find((one) => this.#same(one.boot, boot))
    const others = all.filter((one) => one !== before)
    const newest = {
      boot,
      launch: { ...before?.launch, ...launch },
      tpmAtMs: launch.tpm === undefined ? (before?.tpmAtMs ?? nowMs) : nowMs,
    }
    this.#known.delete(node)
    this.#known.set(node, [newest, ...others].slice(0, BOOTS_REMEMBERED))
    const [oldest] = this.#known.keys()
    if (this.#known.size > limits.nodes && oldest !== undefined) this.#known.delete(oldest)
  }

  #expectSame(
    boot: Uint8Array,
    part: "report_id" | "report_id_ma",
    before: Uint8Array | undefined,
    now: Uint8Array | undefined,
  ): void {
    if (before === undefined && now === undefined) return
    if (before !== undefined && now !== undefined && this.#same(before, now)) return
    throw contradiction("CLONED", boot, part, before && toHex(before), now && toHex(now))
  }

  #expectLater(
    { boot, launch: { tpm: before }, tpmAtMs }: Known,
    { tpm: now }: Launch,
    askedMs: number,
  ): void {
    if (before === undefined || now === undefined) return
    if (before.resets !== now.resets)
      throw contradiction("CLONED", boot, "tpm.resets", describe(before), describe(now))
    const isBack = now.clock_ms < before.clock_ms
    if (!isBack && !wentBack(before.restarts, now.restarts)) return
    const field = isBack ? "tpm.clock_ms" : "tpm.restarts"
    // Evidence that the bus held back for long enough shows an earlier moment too, and nobody is to blame for that.
    const code = askedMs >= tpmAtMs ? "ROLLED_BACK" : "STALE"
    throw contradiction(code, boot, field, describe(before), describe(now))
  }

  #same(a: Uint8Array, b: Uint8Array): boolean {
    return this.#crypto.equalConstantTime(a, b)
  }
}

const describe = (run: TpmRun): string =>
  `${run.resets} resets, ${run.restarts} restarts, clock ${run.clock_ms}${run.safe ? "" : " (not safe)"}`

/** With both values: whoever reads the record has to find out which of two machines is the node. */
const contradiction = (
  code: "CLONED" | "ROLLED_BACK" | "STALE",
  boot: Uint8Array,
  field: string,
  before = "none",
  now = "none",
): MakeError =>
  new MakeError(code, `launch.${field}`, `was ${before}, is ${now}, in one and the same boot ${toHex(boot)}`)
