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
import { standing } from "./standing.ts"

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

type Kept = Omit<Inherited, "ended"> & { ended: boolean }

export class Heritage {
  readonly #crypto: Crypto
  /** In the order of time. */
  #inherited: ReadonlyArray<Kept> = []
  /** The same ones: a verifier's word costs no more than the nodes that it names have results. */
  #byNode: ReadonlyMap<string, ReadonlyArray<Kept>> = new Map()
  /** Nodes that something of has ended. */
  readonly #ended = new Set<string>()
  #nextEndMs = Number.POSITIVE_INFINITY

  constructor(crypto: Crypto, inherited: ReadonlyArray<Inherited> = []) {
    this.#crypto = crypto
    this.#take(inherited.map((one) => ({ ...one })))
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
    const mayStay = standing(document, wallMs)
    return this.#end(this.#inherited, ({ claims, document: before }) => !mayStay(claims, before))
  }

  /**
   * Who signed a result takes it back.
   * @returns the nodes that this ends something of
   */
  withdraw(signer: Uint8Array, { node, result }: WithdrawnOf): ReadonlyArray<string> {
    const same = (a: Uint8Array, b: Uint8Array) => this.#crypto.equalConstantTime(a, b)
    return this.#end(this.#of(node), (one) => same(one.digest, result) && same(one.signer, signer))
  }

  /** All that any earlier reign has given for the node. */
  end(node: string): ReadonlyArray<string> {
    return this.#end(this.#of(node), () => true)
  }

  /** By node, the newest term of which nothing may stay. */
  ended(nowMs: number): ReadonlyMap<string, bigint> {
    if (this.#nextEndMs <= nowMs) this.#take(this.#inherited.filter(({ untilMs }) => nowMs < untilMs))
    const terms = new Map<string, bigint>()
    for (const node of this.#ended)
      for (const { ended, term } of this.#of(node))
        if (ended && term > (terms.get(node) ?? 0n)) terms.set(node, term)
    return terms
  }

  #of(node: string): ReadonlyArray<Kept> {
    return this.#byNode.get(node) ?? []
  }

  #take(all: ReadonlyArray<Kept>): void {
    this.#inherited = all
    this.#byNode = Map.groupBy(all, ({ claims }) => claims.node)
    this.#ended.clear()
    this.#nextEndMs = Number.POSITIVE_INFINITY
    for (const { claims, ended, untilMs } of all) {
      if (ended) this.#ended.add(claims.node)
      this.#nextEndMs = Math.min(this.#nextEndMs, untilMs)
    }
  }

  #end(some: ReadonlyArray<Kept>, which: (one: Kept) => boolean): ReadonlyArray<string> {
    const gone = new Set<string>()
    for (const one of some) {
      if (one.ended || !which(one)) continue
      one.ended = true
      gone.add(one.claims.node)
      this.#ended.add(one.claims.node)
    }
    return [...gone]
  }
}
