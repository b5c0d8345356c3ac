/** `vouchsafe rotate`: a signed order to the key-releaser, and what it says to that. */
import { Effect } from "effect"
import type { Event } from "../../schemas/messages/event.ts"
import { Order } from "../../schemas/messages/order.ts"
import { encode } from "../common/codec/index.ts"
import { crypto } from "../common/crypto/index.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import { onBus } from "./bus-commands.ts"
import { domainOf, keyFileOf, type LifecycleValues } from "./lifecycle-options.ts"
import { readOperatorKey } from "./operator-key.ts"
import type { Output } from "./output.ts"

const ANSWER_MS = 5_000
const LOOK_MS = 50

/**
 * Gives the order once and waits for the event that says that it was taken.
 * @param edge an edge of the workflow or one instance of it (`edge:initiator:responder`); undefined: all
 * @throws Error when it is refused, or nobody takes it within five seconds
 */
export const rotate = async (
  out: Output,
  edge: string | undefined,
  values: LifecycleValues,
): Promise<void> => {
  const domain = domainOf(values)
  using key = readOperatorKey(crypto, keyFileOf(values))
  const nonce = crypto.randomBytes(32)
  const name = Buffer.from(nonce).toString("hex")
  const body = encode(Order, {
    v: 1,
    domain,
    order: "rotate",
    ...(edge === undefined ? {} : { edge }),
    issued_ms: Date.now(),
    nonce,
  })
  const signed = sign(crypto, labels.signedOrder, key, body)
  const answer = await onBus((bus) =>
    Effect.gen(function* () {
      let heard: Event | undefined
      yield* bus.subscribe("event", {}, (event) =>
        Effect.sync(() => {
          if (event.type.startsWith("vouchsafe.order.") && event.subject === name) heard = event
        }),
      )
      yield* bus.publish("order", { domain }, signed)
      for (const end = performance.now() + ANSWER_MS; heard === undefined && performance.now() < end; )
        yield* Effect.sleep(LOOK_MS)
      return heard
    }),
  )
  if (answer === undefined)
    throw new Error(`nobody took the order within ${ANSWER_MS / 1000} s: is a key-releaser leading?`)
  const { code, field, message, term } = answer.data
  if (answer.type === "vouchsafe.order.refused") throw new Error(`refused: ${code} (${field}): ${message}`)
  out.result({ order: name, term, edge: edge ?? null }, [
    `Taken by the releaser of term ${term}: ${edge ?? "all edges"} get new keys, the old ones serve until then.`,
    "Events of type vouchsafe.edge.active say when.",
  ])
}
