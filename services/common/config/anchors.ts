/** A guest's measured configuration: whom it obeys and which control plane it believes. Part of what is measured. */
import { demandsProblem } from "../../../schemas/platforms.ts"
import { Anchors } from "../../../schemas/workflow.ts"
import { readJson } from "./files.ts"

export interface Trust {
  readonly domain: string
  /** Ed25519 public keys of the operators, 32 bytes each. */
  readonly operatorKeys: ReadonlyArray<Uint8Array>
  readonly threshold: number
  readonly controlPlane: Anchors["control_plane"]
}

/**
 * @throws FileError when the file is missing, writable by others or not of the schema; RangeError for a threshold out of
 * reach and for a control plane that nothing can be
 */
export const loadTrust = (path: string): Trust => {
  const anchors = readJson(Anchors, path, { secret: false })
  const operatorKeys = anchors.operator_keys.map((key) => new Uint8Array(Buffer.from(key, "hex")))
  if (new Set(anchors.operator_keys).size < anchors.operator_threshold) {
    throw new RangeError(
      `${path}: operator_threshold is ${anchors.operator_threshold}, more than there are operators`,
    )
  }
  const problem = demandsProblem(anchors.control_plane, anchors.control_plane.roots)
  if (problem !== undefined)
    throw new RangeError(`${path}: control_plane.${problem.field}: ${problem.message}`)
  return {
    domain: anchors.domain,
    operatorKeys,
    threshold: anchors.operator_threshold,
    controlPlane: anchors.control_plane,
  }
}
