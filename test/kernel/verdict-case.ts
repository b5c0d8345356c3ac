/** One packet, and the verdict that it has to get. */
import type { Plane, Program } from "./plane.ts"

export interface Case {
  readonly name: string
  readonly program: Program
  readonly packet: () => Uint8Array
  readonly verdict: string
  /** What the node has done before, or lacks. By default everything is there. */
  readonly given?: (plane: Plane) => void
  readonly plane?: () => Plane
  readonly mark?: number
  readonly gsoSegs?: number
  readonly gsoSize?: number
}

export const seal = "vs_seal"
export const open = "vs_open"
export const guard = "vs_guard"
export const inner = "vs_inner"
