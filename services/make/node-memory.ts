/** What a node never forgets while its machine runs: which epochs and terms it has been at. */
import { compareEpochs, type Epoch } from "./epoch.ts"

/** What outlives a session, and the loader: nothing of it is ever to fall. */
export interface Memory {
  /** By edge instance, the highest epoch ever installed in this boot. */
  readonly tombstones: ReadonlyMap<string, Epoch>
  /** The highest term that was followed, or that keys were installed of, whatever the edge. */
  readonly term: bigint | undefined
}

export const highest = (a: bigint | undefined, b: bigint | undefined): bigint | undefined =>
  a === undefined || (b !== undefined && b > a) ? b : a

/** Both, the higher of what they say. */
export const joinMemories = (a: Memory, b: Memory): Memory => {
  const tombstones = new Map(a.tombstones)
  for (const [instance, epoch] of b.tombstones) {
    const known = tombstones.get(instance)
    if (known === undefined || compareEpochs(epoch, known) > 0) tombstones.set(instance, epoch)
  }
  return { tombstones, term: highest(a.term, b.term) }
}
