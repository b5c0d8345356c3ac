/** From a log to the registers that it should have led to. */
import { toHex } from "../text.ts"
import { type Bank, banks, digest } from "./bank.ts"
import { EventLogError } from "./error.ts"
import type { EventLog } from "./log.ts"
import { eventTypes } from "./types.ts"

/** Registers by number: PCRs, or the CC measurement registers of a CCEL. */
export type Registers = ReadonlyMap<number, Uint8Array>

/** H(old || digest), as a TPM or a TDX module does it. */
export const extend = (bank: Bank, old: Uint8Array, measured: Uint8Array): Uint8Array => {
  const joined = new Uint8Array(old.length + measured.length)
  joined.set(old)
  joined.set(measured, old.length)
  return digest(bank, joined)
}

/**
 * Extends digests in their order.
 * @param start what registers hold before; zeros where it says nothing
 * @returns those registers that something was extended into, and those of `start`
 * @throws EventLogError EVENT_DIGESTS for a digest of another length than the bank's
 */
export const replayDigests = (
  measurements: Iterable<{ readonly register: number; readonly digest: Uint8Array }>,
  bank: Bank,
  start: Registers = new Map(),
): Registers => {
  const size = bytesOf(bank)
  const registers = new Map(start)
  for (const { register, digest: measured } of measurements) {
    if (measured.length !== size)
      throw new EventLogError(
        "EVENT_DIGESTS",
        `log.registers[${register}]`,
        `a digest of ${measured.length} bytes`,
        `${size} bytes`,
      )
    registers.set(register, extend(bank, registers.get(register) ?? new Uint8Array(size), measured))
  }
  return registers
}

/**
 * Registers start at zero, PCR 0 at the locality of TPM2_Startup; EV_NO_ACTION extends nothing.
 * @returns the registers that the log extends; for a CCEL see `rtmrsOf`
 * @throws EventLogError BANK_UNKNOWN, BANK_ABSENT, EVENT_DIGESTS
 */
export const replay = (log: EventLog, bank: Bank): Registers => {
  const size = bytesOf(bank)
  if (!log.banks.includes(bank))
    throw new EventLogError("BANK_ABSENT", "log.banks", log.banks.join(", ") || "none", bank)
  const start = new Map<number, Uint8Array>()
  if (log.startupLocality !== undefined) {
    const first = new Uint8Array(size)
    first[size - 1] = log.startupLocality
    start.set(0, first)
  }
  return replayDigests(measurementsOf(log, bank), bank, start)
}

function* measurementsOf(log: EventLog, bank: Bank) {
  for (const { index, register, type, digests } of log.events) {
    if (type === eventTypes.EV_NO_ACTION) continue
    const measured = digests.get(bank)
    if (measured === undefined)
      throw new EventLogError("EVENT_DIGESTS", `log.events[${index}].digests`, `none for ${bank}`, "one")
    yield { register, digest: measured }
  }
}

const bytesOf = (bank: Bank): number => {
  if (!Object.hasOwn(banks, bank))
    throw new EventLogError("BANK_UNKNOWN", "bank", `${bank}`, Object.keys(banks).join(", "))
  return banks[bank].bytes
}

/** A CCEL numbers MRTD 0 and RTMR0 to RTMR3 1 to 4 (UEFI 2.10, 38.4.1). RTMRs without an event are zeros. */
export const rtmrsOf = (registers: Registers): readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array] => {
  for (const register of registers.keys())
    if (register < 1 || register > 4)
      throw new EventLogError(
        "EVENT_REGISTER",
        `log.registers[${register}]`,
        "an extension",
        "1 to 4 in a CCEL",
      )
  const rtmr = (i: number) => registers.get(i + 1) ?? new Uint8Array(banks.sha384.bytes)
  return [rtmr(0), rtmr(1), rtmr(2), rtmr(3)]
}

/**
 * Compares a log with registers that were quoted. Every register in `wanted` must come out as quoted; one that the log
 * doesn't touch must hold its reset value.
 * @param quoted verified values, never what came beside a quote
 * @param wanted which registers the log has to explain; default: those that it extends
 * @returns the registers that the log is proven for
 * @throws EventLogError REGISTER_ABSENT, REPLAY_MISMATCH, and what `replay` throws
 */
export const matchReplay = (
  log: EventLog,
  bank: Bank,
  quoted: Registers,
  wanted?: readonly number[],
): readonly number[] => {
  const replayed = replay(log, bank)
  const registers = [...(wanted ?? replayed.keys())].sort((a, b) => a - b)
  for (const register of registers) {
    const field = `log.registers[${register}]`
    const value = quoted.get(register)
    if (value === undefined)
      throw new EventLogError("REGISTER_ABSENT", field, "no quoted value", `a value in the ${bank} bank`)
    const computed = replayed.get(register) ?? resetValue(register, bank)
    if (Buffer.compare(computed, value) !== 0)
      throw new EventLogError("REPLAY_MISMATCH", field, toHex(computed), `${toHex(value)}, as quoted`)
  }
  return registers
}

/** PCRs 17 to 22 are all ones until a dynamic launch (PC Client Platform TPM Profile, 4.6.2). */
const resetValue = (register: number, bank: Bank): Uint8Array =>
  new Uint8Array(banks[bank].bytes).fill(register >= 17 && register <= 22 ? 0xff : 0)
