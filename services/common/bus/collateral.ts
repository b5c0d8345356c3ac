/** The bucket of collateral: read through from the first piece to the last, filled by operators. */
import { Effect } from "effect"
import { TOKEN } from "../../../schemas/fields.ts"
import { limits } from "../../../schemas/limits.ts"
import { CollateralPiece } from "../../../schemas/messages/collateral.ts"
import { token } from "../../../schemas/pattern.ts"
import { subjects } from "../../../schemas/subjects.ts"
import { decode } from "../codec/index.ts"
import type { Core } from "./bus.ts"
import { api } from "./events.ts"
import { COLLATERAL_STREAM, collateralSubject } from "./streams.ts"
import { BusError, type BusShape, type StoredCollateral } from "./types.ts"

const { bytesMax } = subjects.collateral
/** Of all pieces together: a bucket that says it holds more is read no further. */
const LIST_BYTES = 16_777_216
const GET_MS = 2_000

export const makeCollateral = (core: Core): BusShape["collateral"] => {
  const at = `$JS.API.DIRECT.GET.${COLLATERAL_STREAM}`

  /** The first piece at or after a sequence number; undefined behind the last. */
  const next = (seq: number) =>
    Effect.gen(function* () {
      const asked = new TextEncoder().encode(JSON.stringify({ seq, next_by_subj: collateralSubject("*") }))
      const message = yield* Effect.tryPromise({
        try: () => core.connection.request(at, asked, GET_MS),
        catch: (error) => error as BusError,
      })
      if (message.status === 404) return undefined
      const sequence = Number(message.header("Nats-Sequence"))
      if (message.status >= 400 || !Number.isSafeInteger(sequence) || sequence < seq)
        return yield* new BusError({
          reason: "Stream",
          subject: at,
          message: `unusable answer (${message.status})`,
        })
      return { sequence, subject: message.header("Nats-Subject") ?? "", data: message.data }
    })

  const list = Effect.gen(function* () {
    const found: StoredCollateral[] = []
    let size = 0
    for (let seq = 1; found.length < limits.collateralPieces && size < LIST_BYTES; ) {
      const one = yield* next(seq)
      if (one === undefined) break
      seq = one.sequence + 1
      size += one.data.length
      const key = one.subject.split(".").at(-1) ?? ""
      const piece = decode(CollateralPiece, one.data, { subject: one.subject, bytesMax })
      if (piece.ok && TOKEN.test(key)) found.push({ key, piece: piece.value })
      else core.counting.refuse("BAD_COLLATERAL")
    }
    return found
  })

  const put: BusShape["collateral"]["put"] = (key, piece) =>
    Effect.gen(function* () {
      const subject = yield* Effect.try({
        try: () => collateralSubject(token("key", key)),
        catch: (error) =>
          new BusError({ reason: "Invalid", subject: "collateral", message: (error as Error).message }),
      })
      const { data } = yield* core.pack("collateral", { key }, piece)
      yield* api(core, subject, data, { "Nats-Expected-Stream": COLLATERAL_STREAM })
    })

  return { list, put }
}
