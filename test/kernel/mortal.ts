/** Deaths at any step: what changes file system or hooks stops at the nth, and nothing is done after that, as if the process were gone. */
import fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import type { Hooks } from "../../services/common/kernel/links.ts"

class Death extends Error {}

const changing = ["renameSync", "unlinkSync", "rmdirSync", "mkdirSync"] as const

/**
 * Runs `act` until it has done `steps` changes; gives whether it died. The hooks that it is given count as well.
 * Whatever else it throws is passed on.
 */
export const mortal = (steps: number, real: Hooks, act: (hooks: Hooks) => void): boolean => {
  let left = steps
  const step = (): void => {
    if (left <= 0) throw new Death()
    left -= 1
  }
  const before = changing.map((name) => [name, fs[name]] as const)
  const hooks: Hooks = {
    kind: real.kind,
    attach: (...args) => {
      step()
      real.attach(...args)
    },
    replace: (...args) => {
      step()
      real.replace(...args)
    },
    detach: (...args) => {
      step()
      real.detach(...args)
    },
  }
  for (const [name, original] of before)
    Object.assign(fs, {
      [name]: (...args: Array<unknown>) => {
        step()
        return Reflect.apply(original, fs, args)
      },
    })
  syncBuiltinESMExports()
  try {
    act(hooks)
    return false
  } catch (error) {
    if (error instanceof Death) return true
    throw error
  } finally {
    Object.assign(fs, Object.fromEntries(before))
    syncBuiltinESMExports()
  }
}
