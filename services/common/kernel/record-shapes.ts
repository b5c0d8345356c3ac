/** How large everything is that the programs share with this side. */
import { VERDICTS_MAX } from "../../../schemas/verdicts.ts"
import { type MapShape, mapType } from "./maps.ts"

export const VS_LAYOUT = 7
export const EDGES_MAX = 1024
export const LANES_MAX = 16
/** RFC 4303 section 2.1: SPIs 0 to 255 are reserved. */
export const SPI_MIN = 256
export const KEY_SIZE = 32
export const SALT_SIZE = 4
export const FLAG_ESN = 1

const { HASH, ARRAY, PERCPU_ARRAY } = mapType
const [LRU_HASH, QUEUE] = [9, 22]
const shape = (type: number, keySize: number, valueSize: number, maxEntries: number): MapShape => ({
  type,
  keySize,
  valueSize,
  maxEntries,
})

/** Every map that the programs share with this side, as the kernel must report it. */
export const shapes = {
  config: shape(ARRAY, 4, 88, 1),
  policies: shape(HASH, 8, 8, 4096),
  policies6: shape(HASH, 20, 8, 4096),
  edges: shape(HASH, 4, 48, EDGES_MAX),
  outbound: shape(HASH, 8, 8, 16384),
  sa_out: shape(HASH, 8, 48, 4096),
  sa_in: shape(HASH, 4, 48, 4096),
  lease_out: shape(HASH, 8, 8, 4096),
  lease_in: shape(HASH, 4, 8, 4096),
  windows: shape(HASH, 4, 272, 4096),
  flows: shape(HASH, 12, 16, 65536),
  flow_counts: shape(ARRAY, 4, 4, EDGES_MAX),
  flow_queue: shape(QUEUE, 0, 16, 131072),
  endpoints: shape(ARRAY, 4, 8, EDGES_MAX * LANES_MAX),
  endpoints6: shape(ARRAY, 4, 24, EDGES_MAX * LANES_MAX),
  path_mtus: shape(ARRAY, 4, 8, EDGES_MAX),
  paths: shape(LRU_HASH, 8, 4, 16384),
  paths6: shape(LRU_HASH, 20, 4, 16384),
  rates: shape(PERCPU_ARRAY, 4, 16, VERDICTS_MAX + 1),
  drops: shape(PERCPU_ARRAY, 4, 8 + 80 * 32, 1),
  edge_stats: shape(PERCPU_ARRAY, 4, 32, EDGES_MAX * LANES_MAX),
  edge_drops: shape(PERCPU_ARRAY, 4, 8 * VERDICTS_MAX, EDGES_MAX),
  verdicts: shape(PERCPU_ARRAY, 4, 8, VERDICTS_MAX),
} as const satisfies Record<string, MapShape>
export type MapName = keyof typeof shapes
