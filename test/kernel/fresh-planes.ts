/** Planes for one test each, closed after it. */
import { afterEach } from "vitest"
import { type Plane, readyPlane } from "./plane.ts"

const planes: Array<Plane> = []

export const keep = (plane: Plane): Plane => {
  planes.push(plane)
  return plane
}

export const ready = (): Plane => keep(readyPlane())

/** To be called once at the top of a file. */
export const closeAfterEach = (): void =>
  afterEach(() => {
    for (const plane of planes.splice(0)) plane.close()
  })
