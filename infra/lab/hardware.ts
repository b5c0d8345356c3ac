/**
 * The lab's emulated hardware: one root for this checkout, a chip per guest, and guests launched on them. What it signs is
 * worth nothing beyond the lab, and everything that accepts it says so.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { crypto } from "../../services/common/crypto/index.ts"
import { launchGuest, plainPolicy } from "../../services/evidence/emulated/guest.ts"
import { measure, measureFiles } from "../../services/evidence/emulated/measure.ts"
import {
  createEmulatedChip,
  createEmulatedRoot,
  type EmulatedRoot,
} from "../../services/evidence/emulated/platform.ts"
import { encodeGuest, encodeRoot, readRoot, writeState } from "../../services/evidence/emulated/state.ts"

export const CHECKOUT = fileURLToPath(new URL("../../", import.meta.url))
const ROOT_FILE = join(CHECKOUT, ".cache", "emulated-root.json")

/** The root of this checkout. Made at its first use, which takes seconds (two RSA keys of 4,096 bits), and kept. */
export const emulatedRoot = (): EmulatedRoot => {
  if (existsSync(ROOT_FILE)) {
    try {
      return readRoot(ROOT_FILE)
    } catch {
      // Of another version: a new one is as good.
    }
  }
  const root = createEmulatedRoot({ now: new Date() })
  mkdirSync(dirname(ROOT_FILE), { recursive: true })
  const fresh = `${ROOT_FILE}.${process.pid}`
  writeState(fresh, encodeRoot(root))
  chmodSync(fresh, 0o600)
  renameSync(fresh, ROOT_FILE)
  return root
}

const IMAGE = ["services", "schemas", "package-lock.json"] as const

/** What a guest of the control plane runs: these sources, and by the lock file every dependency and the runtime. 48 bytes. */
export const imageMeasurement = (): Uint8Array => measureFiles(CHECKOUT, IMAGE)

/** A node's guest runs the same image with its anchors baked in. 48 bytes. */
export const nodeMeasurement = (image: Uint8Array, anchorsPath: string): Uint8Array => {
  const anchors = readFileSync(anchorsPath)
  return measure([
    { path: "image", bytes: image.length, digest: image },
    { path: "anchors.json", bytes: anchors.length, digest: crypto.sha384(anchors) },
  ])
}

export interface LaunchOrder {
  /** 48 bytes. */
  readonly measurement: Uint8Array
  /** Where the guest's device goes. */
  readonly stateFile: string
  /** 64 bits; a plain one when absent. */
  readonly policy?: bigint
}

/** Launches a guest on a chip: leaves its device for its attester. */
export const launch = (chip: ReturnType<typeof createEmulatedChip>, order: LaunchOrder): void => {
  const { measurement, policy = plainPolicy } = order
  writeState(order.stateFile, encodeGuest(launchGuest(chip, { measurement, policy })))
}

export const newChip = (root: EmulatedRoot) => createEmulatedChip(root, { now: new Date() })
