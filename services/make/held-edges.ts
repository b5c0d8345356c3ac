/** What an acknowledgement says of the very epochs that the node was told of. */
import { MakeError } from "./errors.ts"
import type { Generation } from "./generation.ts"
import type { SentEdge } from "./node-book.ts"
import { type AckEdge, GENERATIONS_MAX } from "./release.ts"

/** Which entry speaks of a generation, the one at this place of what the node was told; undefined: the node doesn't hold it. */
export type Held = (generation: Generation, place: number) => AckEdge | undefined

const isOf = ({ edge, epoch }: Generation, one: AckEdge | undefined): boolean =>
  one !== undefined && one.epoch === epoch.n && one.term === epoch.term && one.instance === edge.id

/**
 * @param said what the node was told, each generation once
 * @throws MakeError MALFORMED for an epoch that is named twice, and for more epochs of an edge than a release names
 */
export const heldOf = (edges: ReadonlyArray<AckEdge>, said: ReadonlyArray<SentEdge>): Held => {
  // As a rule a node holds all that it was told to, in that order.
  if (edges.length === said.length && said.every(({ generation }, i) => isOf(generation, edges[i])))
    return (_, place) => edges[place]
  const held = byInstance(edges)
  return (generation) => held.get(generation.edge.id)?.find((one) => isOf(generation, one))
}

const byInstance = (edges: ReadonlyArray<AckEdge>): ReadonlyMap<string, ReadonlyArray<AckEdge>> => {
  const held = new Map<string, Array<AckEdge>>()
  for (const edge of edges) {
    const known = held.get(edge.instance)
    if (known === undefined) {
      held.set(edge.instance, [edge])
      continue
    }
    // No release names more than three epochs of an edge: an acknowledgement of more is not of one.
    if (
      known.length >= GENERATIONS_MAX ||
      known.some(({ term, epoch }) => term === edge.term && epoch === edge.epoch)
    )
      throw new MakeError("MALFORMED", "edges", "an epoch is named twice, or too many of one edge")
    known.push(edge)
  }
  return held
}
