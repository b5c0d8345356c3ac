import { Attr, bpf, closeFd, command } from "./bpf.ts"
import { createMap, mapType } from "./maps.ts"

export interface Grace {
  /** Returns when every program that was running at the call has ended. */
  readonly wait: () => void
  readonly close: () => void
}

/**
 * A way to wait until no running program can still hold a pointer to a deleted map element. Hash elements are recycled at
 * once: a new key written into the slot of an old one under a running sealer could meet the old one's sequence number.
 * The kernel waits for running programs after each update of a map of maps (maybe_wait_bpf_programs in
 * kernel/bpf/syscall.c), so a private one of those does it on every kernel, with any real-time configuration.
 */
export const createGrace = (): Grace => {
  const shape = { type: mapType.ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 }
  const inner = createMap("grace_inner", shape)
  let outer: number
  try {
    outer = createMap("grace", { ...shape, type: mapType.ARRAY_OF_MAPS }, 0, inner)
  } catch (error) {
    closeFd(inner)
    throw error
  }
  const key = new Uint8Array(4)
  const value = new Uint8Array(4)
  new DataView(value.buffer).setUint32(0, inner, true)
  return {
    wait: () => {
      const attr = new Attr(32).u32(0, outer).pointer(8, key).pointer(16, value)
      bpf(command.MAP_UPDATE_ELEM, attr, "wait for", "running programs")
    },
    close: () => {
      closeFd(outer)
      closeFd(inner)
    },
  }
}
