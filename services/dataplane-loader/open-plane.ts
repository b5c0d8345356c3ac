/** What somebody broke while no loader was there ends traffic too; a plane that is whole may have been cut off by one that died. */
import { KernelError } from "../common/kernel/errors.ts"
import { ifIndex } from "../common/kernel/netdev.ts"
import { setLink } from "../common/kernel/rtnetlink.ts"
import { openPlane, type Plane, type PlaneOptions } from "./dataplane/plane.ts"

const ifThere = (device: string, up: boolean): void => {
  try {
    setLink(ifIndex(device), up)
  } catch (error) {
    if (!(error instanceof KernelError) || error.code !== "ENODEV") throw error
  }
}

/** Another loader holds the plane, and watches it. */
const isHeld = (error: unknown): boolean =>
  error instanceof KernelError && error.op === "open plane" && error.code === "EBUSY"

/** Opens the plane and lets the application in; cuts it off when the plane can't be opened, and throws why. */
export const openOrCutOff = (options: PlaneOptions): Plane => {
  let plane: Plane | undefined
  try {
    plane = openPlane(options)
    ifThere(options.inner, true)
    return plane
  } catch (error) {
    plane?.close()
    if (!isHeld(error)) ifThere(options.inner, false)
    throw error
  }
}
