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

/** Gathers for `gatherMs` what happened and what was sent; the scope's end keeps nothing back. */
export const makeRecord = Effect.fn("makeRecord")(function* (bus: BusShape, gatherMs: number) {
  let events: Array<ReleaserEvent> = []
  let releases: Array<Sent> = []
  const any = yield* Latch.make(false)
  const tell = Effect.suspend(() => {
    const drafts = [...eventsOf(events), ...sentEvents(releases)]
    events = []
    releases = []
    any.closeUnsafe()
    return Effect.forEach(drafts, bus.event, { discard: true })
  })
  yield* Effect.addFinalizer(() => tell)
  yield* Effect.forkScoped(
    any.await.pipe(Effect.andThen(Effect.sleep(gatherMs)), Effect.andThen(tell), Effect.forever),
  )
  return {
    happened: (event: ReleaserEvent): void => {
      events.push(event)
      any.openUnsafe()
    },
    sent: ({ node, header, payload }: ReleaseOutput): void => {
      releases.push({
        node,
        term: header.term,
        sequence: header.sequence,
        epochs: payload.edges.length,
      })
      any.openUnsafe()
    },
  }
})
