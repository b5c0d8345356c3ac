/** What an operator asks of the control plane at once, without a new workflow. */
import { Schema } from "effect"
import { Count, Nonce, Token, text, Version } from "../fields.ts"

/** The body that an operator signs: new epochs for one edge of the workflow, one instance of it, or all. */
export const Order = Schema.Struct({
  v: Version,
  domain: Token,
  order: Schema.Literal("rotate"),
  /** An edge's or an edge instance's id; absent: all edges. */
  edge: Schema.optionalKey(text(200)),
  /** The operator's clock, ms since the epoch: an order is carried out within a minute of it, or never. */
  issued_ms: Count,
  /** An order is carried out once. */
  nonce: Nonce,
})
export type Order = typeof Order.Type
