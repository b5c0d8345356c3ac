/**
 * Holds what a node's Evidence shows of its machine's run against what the same boot has shown before, and keeps it for what
 * comes next: in one step, so that of two answers that were judged side by side the second is held against the first.
 */
import type { Check } from "../../schemas/messages/common.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { Verdict } from "../guest/appraise-node.ts"
import { MakeError } from "../make/errors.ts"
import { LaunchBook } from "../make/launch.ts"

type Accepted = Verdict & { readonly accepted: true }

const refusedLaunch = ({ result, checks, ...rest }: Accepted, { code, message }: MakeError): Verdict => {
  const reason: Check = {
    name: "launch",
    result: "failed",
    found: message.slice(0, 256),
    wanted: "what this boot has shown before, or later than that",
  }
  const { stage, assurance, platform } = result
  const emulated = assurance === "emulated"
  return { ...rest, accepted: false, code, reason, checks: [...checks, reason], stage, emulated, platform }
}

export class Launches {
  readonly #book: LaunchBook

  constructor(crypto: Crypto) {
    this.#book = new LaunchBook(crypto)
  }

  /**
   * Good Evidence of a machine that can't be the one that was seen before is refused: the results of that one stay.
   * @param askedMs when it was challenged
   * @param arrivedMs when its answer came; both of one monotonic clock
   */
  judge(verdict: Verdict, askedMs: number, arrivedMs: number): Verdict {
    if (!verdict.accepted) return verdict
    try {
      this.#book.expect(verdict.result, askedMs)
      this.#book.know(verdict.result, arrivedMs)
      return verdict
    } catch (error) {
      if (!(error instanceof MakeError)) throw error
      return refusedLaunch(verdict, error)
    }
  }
}
