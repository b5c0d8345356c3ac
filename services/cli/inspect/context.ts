import type { Item } from "./files.ts"

/** What holds for all evidence of one command. */
export interface Context {
  readonly at: Date
  /** Files on the command line that are no evidence themselves: they come before anything that is found. */
  readonly given: readonly Item[]
  /** All evidence of the command: one piece may vouch for another. */
  readonly evidence: readonly Item[]
  readonly collateral?: string
  /** What the evidence must answer. */
  readonly nonce?: Uint8Array
}
