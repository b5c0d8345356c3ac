/** The few forms that a rule's answer has. */
import type { Finding } from "./policy.ts"

export const finding = (passed: boolean, found: string, wanted: string): Finding => ({
  result: passed ? "passed" : "failed",
  found,
  wanted,
})

export const notApplicable = (found: string, wanted = "no rule"): Finding => ({
  result: "not-applicable",
  found,
  wanted,
})

export const listed = (values: readonly string[]): string => {
  if (values.length === 0) return "none is accepted"
  return values.length === 1 ? `${values[0]}` : `one of ${values.length}: ${values.join(", ")}`
}

/** `wanted` left out: no rule. */
export const oneOf = (found: string, wanted: readonly string[] | undefined): Finding =>
  wanted === undefined ? notApplicable(found) : finding(wanted.includes(found), found, listed(wanted))

const word = (set: boolean): string => (set ? "set" : "clear")

/** `allowed` is the policy's word; a policy that allows a flag has nothing against its absence. */
export const onlyIf = (allowed: boolean | undefined, set: boolean): Finding => {
  if (allowed === undefined) return notApplicable(word(set))
  return finding(!set || allowed === true, word(set), allowed === true ? "either" : "clear")
}

/** Exactly as written. */
export const exactly = (wanted: boolean | undefined, set: boolean): Finding =>
  wanted === undefined ? notApplicable(word(set)) : finding(set === wanted, word(set), word(wanted))

export const shortened = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`
