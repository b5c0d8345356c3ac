/**
 * What a releaser's earlier reigns have given, as long as a lease of then can last: a new term begins with nothing, but the
 * keys of the terms before go on at both ends. Whoever is taken back meanwhile is told to its peers as an end of those.
 * Pure; times are ms of the releaser's own monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"
import type { Workflow as Document } from "../../schemas/workflow.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { WithdrawnOf } from "./node-book.ts"
import type { VouchedResult } from "./result.ts"
import { forbiddenNodes } from "./standing.ts"

/** A result that was in force in a term before, and the document that it was appraised against. */
export interface Inherited {
  readonly claims: VouchedResult["claims"]
  readonly digest: Uint8Array
  /** Of the verifier that signed it. */
  readonly signer: Uint8Array
  readonly document: Document
  readonly term: bigint
  readonly untilMs: number
  /** What rests on it is to end now. */
  readonly ended: boolean
}

const INHERITED_MAX = 4 * limits.nodes

/** What is left of earlier reigns beside what a reign leaves that ends now. */
export const inherit = (
  earlier: ReadonlyArray<Inherited>,
  results: ReadonlyArray<VouchedResult>,
  { document, term }: Pick<Inherited, "document" | "term">,
  nowMs: number,
): ReadonlyArray<Inherited> => {
  const untilMs = nowMs + limits.leaseMsMax
  return [
    ...earlier.filter((one) => nowMs < one.untilMs),
    ...results.map(({ claims, digest, signed }) => ({
      claims,
      digest,
      signer: signed.batch.key,
      document,
      term,
      untilMs,
      ended: false,
    })),
  ].slice(-INHERITED_MAX)
}

export class Heritage {
  readonly #crypto: Crypto
  #inherited: ReadonlyArray<Inherited>

  constructor(crypto: Crypto, inherited: ReadonlyArray<Inherited> = []) {
    this.#crypto = crypto
    this.#inherited = inherited
  }

  all(): ReadonlyArray<Inherited> {
    return this.#inherited
  }

  /**
   * What a document that comes into force doesn't take any more ends.
   * @param wallMs ms since 1970
   * @returns the nodes
   */
  judge(document: Document, wallMs: number): ReadonlyArray<string> {
    return this.#end(
      ({ claims, document: before }) => forbiddenNodes(document, [claims], wallMs, before).length > 0,
    )
  }

  /**
   * Who signed a result takes it back.
   * @returns the nodes that this ends something of
   */
  withdraw(signer: Uint8Array, { node, result }: WithdrawnOf): ReadonlyArray<string> {
    const same = (a: Uint8Array, b: Uint8Array) => this.#crypto.equalConstantTime(a, b)
    return this.#end(
      (one) => one.claims.node === node && same(one.digest, result) && same(one.signer, signer),
    )
  }

  /** All that any earlier reign has given for the node. */
  end(node: string): ReadonlyArray<string> {
    return this.#end(({ claims }) => claims.node === node)
  }

  #end(which: (one: Inherited) => boolean): ReadonlyArray<string> {
    const gone = new Set<string>()
    this.#inherited = this.#inherited.map((one) => {
      if (one.ended || !which(one)) return one
      gone.add(one.claims.node)
      return { ...one, ended: true }
    })
    return [...gone]
  }

  /** By node, the newest term of which nothing may stay. */
  ended(nowMs: number): ReadonlyMap<string, bigint> {
    const terms = new Map<string, bigint>()
    if (this.#inherited.length === 0) return terms
    this.#inherited = this.#inherited.filter(({ untilMs }) => nowMs < untilMs)
    for (const { ended, claims, term } of this.#inherited)
      if (ended && term > (terms.get(claims.node) ?? 0n)) terms.set(claims.node, term)
    return terms
  }
}
