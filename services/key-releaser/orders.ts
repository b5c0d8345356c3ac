/** Hears operators' orders: a rotation lets nobody in and nobody out, so that any one operator may give it. */
import { Effect } from "effect"
import { Order } from "../../schemas/messages/order.ts"
import type { Bus } from "../common/bus/bus.ts"
import { Pace } from "../common/bus/counters.ts"
import type { BusError } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { attempt, decodeBody } from "../guest/refusals.ts"
import { verify } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import { OrderBook } from "../make/orders.ts"
import type { Releaser, ReleaserOutput } from "../make/releaser.ts"

export interface OrdersOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  /** Undefined while another one leads: then an order is only remembered, and carried out over there. */
  readonly core: () => Releaser | undefined
  readonly take: (outputs: ReadonlyArray<ReleaserOutput>) => Effect.Effect<unknown, BusError>
}

export const hearOrders = Effect.fn("hearOrders")(function* (bus: Bus["Service"], options: OrdersOptions) {
  const { crypto, trust } = options
  const book = new OrderBook(trust.domain, Date.now())
  /** Anybody with an operator's identity on the bus can send bad ones. */
  const refusals = new Pace(10, 1_000)

  yield* bus.subscribe("order", { domain: trust.domain }, (signed) => {
    let subject: string | undefined
    return Effect.gen(function* () {
      const order = yield* attempt(() => {
        const body = verify(crypto, labels.signedOrder, trust.operatorKeys, signed)
        const value = decodeBody(Order, body, "order")
        subject = Buffer.from(value.nonce).toString("hex")
        book.take(value, Date.now())
        return value
      })
      const core = options.core()
      if (core === undefined) return
      const outputs = yield* attempt(() => core.rotate(order.edge, performance.now()))
      yield* bus.event({
        type: "vouchsafe.order.accepted",
        subject: Buffer.from(order.nonce).toString("hex"),
        data: { term: core.term, message: `rotate ${order.edge ?? "all edges"}` },
      })
      yield* options.take(outputs)
    }).pipe(
      Effect.catchTag("Refused", ({ code, field, message }) =>
        refusals.take()
          ? bus.event({
              type: "vouchsafe.order.refused",
              ...(subject === undefined ? {} : { subject }),
              data: { code, field, message },
            })
          : Effect.void,
      ),
    )
  })
})
