/** What is extended into a register, one step after another, each with a word on what it is. */
import { type Bank, banks, digest } from "../eventlog/bank.ts"
import { extend } from "../eventlog/replay.ts"

export interface Step {
  readonly what: string
  readonly digest: Uint8Array
}

/** A register that began with zeros. */
export const registerOf = (bank: Bank, steps: readonly Step[]): Uint8Array =>
  steps.reduce<Uint8Array>((old, step) => extend(bank, old, step.digest), new Uint8Array(banks[bank].bytes))

export const textStep = (bank: Bank, text: string): Step => ({
  what: `"${text}"`,
  digest: digest(bank, Buffer.from(text, "ascii")),
})

/** The end of what firmware measures into a register before it boots something. */
export const separator = (bank: Bank): Step => ({
  what: "separator",
  digest: digest(bank, new Uint8Array(4)),
})

/** Strings of the PC Client Platform Firmware Profile, 3.3.4. */
export const actions = {
  calling: "Calling EFI Application from Boot Option",
  returning: "Returning from EFI Application from Boot Option",
  exitInvoked: "Exit Boot Services Invocation",
  exitReturned: "Exit Boot Services Returned with Success",
} as const
