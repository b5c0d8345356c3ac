/** What the releaser puts on record. Few things that happen are an event each; many at once share events, none is left out. */
import { Effect, Latch } from "effect"
import { EVENT_LIST_MAX, type EventData } from "../../schemas/messages/event.ts"
import type { BusShape, EventDraft } from "../common/bus/types.ts"
import type { ReleaseOutput, ReleaserEvent } from "../make/releaser.ts"

/** From this many of one kind on they are told together. */
const MANY = 8

type Dotted<E extends string> = E extends `${infer A}-${infer B}` ? `${A}.${B}` : never

const typeOf = (event: ReleaserEvent["event"]) =>
  `vouchsafe.${event.replace("-", ".") as Dotted<ReleaserEvent["event"]>}` as const

const single = ({ event, node, instance, epoch }: ReleaserEvent): EventDraft => {
  const subject = node ?? instance
  const data: EventData = {
    ...(node === undefined ? {} : { node }),
    ...(instance === undefined ? {} : { edge: instance }),
    ...(epoch === undefined ? {} : { term: epoch.term, epoch: epoch.n }),
  }
  return { type: typeOf(event), ...(subject === undefined ? {} : { subject }), data }
}

const chunks = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(items.length / EVENT_LIST_MAX) }, (_, i) =>
    items.slice(i * EVENT_LIST_MAX, (i + 1) * EVENT_LIST_MAX),
  )

/** Of one kind, all of edges: in lists by term. */
const together = (event: ReleaserEvent["event"], group: ReadonlyArray<ReleaserEvent>) =>
  [...Map.groupBy(group, ({ epoch }) => epoch?.term)].flatMap(([term, ofTerm]) =>
    chunks(ofTerm).map(
      (part): EventDraft => ({
        type: typeOf(event),
        data: {
          ...(term === undefined ? {} : { term }),
          edges: part.flatMap(({ instance, epoch }) =>
            instance === undefined || epoch === undefined ? [] : [{ edge: instance, epoch: epoch.n }],
          ),
          message: `${part.length} edges`,
        },
      }),
    ),
  )

export const eventsOf = (events: ReadonlyArray<ReleaserEvent>): ReadonlyArray<EventDraft> =>
  [...Map.groupBy(events, ({ event }) => event)].flatMap(([event, group]) => {
    const ofEdges = group.every(({ instance, epoch }) => instance !== undefined && epoch !== undefined)
    return ofEdges && group.length >= MANY ? together(event, group) : group.map(single)
  })

interface Sent {
  readonly node: string
  readonly term: bigint
  readonly sequence: bigint
  readonly epochs: number
}

export const sentEvents = (releases: ReadonlyArray<Sent>): ReadonlyArray<EventDraft> => {
  const type = "vouchsafe.release.sent"
  if (releases.length < MANY) {
    return releases.map(({ node, term, sequence, epochs }) => ({
      type,
      subject: node,
      data: { node, term, message: `release ${sequence} with ${epochs} edge epochs` },
    }))
  }
  return [...Map.groupBy(releases, ({ term }) => term)].flatMap(([term, ofTerm]) =>
    chunks(ofTerm).map((part) => ({
      type,
      data: {
        term,
        releases: part.map(({ node, sequence, epochs }) => ({ node, sequence, epochs })),
        message: `${part.length} releases`,
      },
    })),
  )
}

/** Each kind waits for more of it, for its number of ms; the scope's end keeps nothing back. */
export const makeRecord = Effect.fn("makeRecord")(function* (
  bus: Pick<BusShape, "event">,
  gatherMs: { readonly happened: number; readonly sent: number },
) {
  const gathered = Effect.fnUntraced(function* <A>(
    ms: number,
    drafts: (items: ReadonlyArray<A>) => ReadonlyArray<EventDraft>,
  ) {
    let items: Array<A> = []
    const any = yield* Latch.make(false)
    const tell = Effect.suspend(() => {
      const told = drafts(items)
      items = []
      any.closeUnsafe()
      return Effect.forEach(told, bus.event, { discard: true })
    }).pipe(Effect.uninterruptible)
    yield* Effect.addFinalizer(() => tell)
    yield* Effect.forkScoped(
      any.await.pipe(Effect.andThen(Effect.sleep(ms)), Effect.andThen(tell), Effect.forever),
    )
    return (item: A): void => {
      items.push(item)
      any.openUnsafe()
    }
  })
  const sent = yield* gathered(gatherMs.sent, sentEvents)
  return {
    happened: yield* gathered(gatherMs.happened, eventsOf),
    sent: ({ node, header: { term, sequence }, payload }: ReleaseOutput): void =>
      sent({ node, term, sequence, epochs: payload.edges.length }),
  }
})
