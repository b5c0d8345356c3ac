/** What the releaser puts on record. Few things that happen are an event each; many at once share events, none is left out. */
import { EVENT_LIST_MAX, type EventData } from "../../schemas/messages/event.ts"
import type { EventDraft } from "../common/bus/types.ts"
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

export const sentEvents = (releases: ReadonlyArray<ReleaseOutput>): ReadonlyArray<EventDraft> => {
  const type = "vouchsafe.release.sent"
  if (releases.length < MANY) {
    return releases.map(({ node, header, payload }) => ({
      type,
      subject: node,
      data: {
        node,
        term: header.term,
        message: `release ${header.sequence} with ${payload.edges.length} edge epochs`,
      },
    }))
  }
  return chunks(releases).map((part) => ({
    type,
    data: {
      ...(part[0] === undefined ? {} : { term: part[0].header.term }),
      releases: part.map(({ node, header, payload }) => ({
        node,
        sequence: header.sequence,
        epochs: payload.edges.length,
      })),
      message: `${part.length} releases`,
    },
  }))
}
