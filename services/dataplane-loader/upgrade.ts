/** Whether the programs of the object file take the place of those that run: the signed document decides. */
import { toHex } from "../common/hex.ts"
import { KernelError } from "../common/kernel/errors.ts"
import type { Plane } from "./dataplane/plane.ts"

export interface Told {
  readonly done: boolean
  readonly code: string
  readonly message: string
}

/**
 * Puts the object's programs in place if the signed document names them. Keys pass only from a plane that it names too: what
 * another one held, or did, nobody has vouched for. Gives what there is to tell; nothing when there was nothing to do.
 */
export const upgradePlane = (
  plane: Pick<Plane, "measurement" | "waiting" | "upgrade" | "revokeAll">,
  listed: ReadonlyArray<string>,
): Told | undefined => {
  const { waiting, measurement } = plane
  if (waiting === undefined) return undefined
  const [from, to] = [toHex(measurement.digest), toHex(waiting.digest)]
  if (!listed.includes(to))
    return {
      done: false,
      code: "NOT_LISTED",
      message: `the stage does not list the object's programs (${to}); what runs goes on`,
    }
  try {
    const keep = listed.includes(from)
    if (!keep) plane.revokeAll()
    plane.upgrade()
    return {
      done: true,
      code: "UPGRADED",
      message: `from ${from}, ${keep ? "keys kept" : "not listed: keys gone"}`,
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error
    return { done: false, code: error.code.slice(0, 64), message: error.message.slice(0, 512) }
  }
}
