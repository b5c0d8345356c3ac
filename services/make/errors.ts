/** Why the protocol refused something. The field names what was wrong; no secret is ever quoted. */

export type MakeErrorCode =
  /** A value has a length, range or form that its field doesn't take. */
  | "MALFORMED"
  /** More of something than a limit allows. */
  | "LIMIT"
  /** A signature, seal or inclusion path doesn't verify. */
  | "NOT_AUTHENTIC"
  /** Meant for another domain, workflow, node, session or role. */
  | "MISDIRECTED"
  /** Answers a nonce or challenge that isn't, or is no longer, outstanding; names what isn't the newest any more. */
  | "STALE"
  /** A term, epoch or sequence that fell, jumped, or was used before. */
  | "NOT_RISING"
  /** Names an edge that the signed workflow doesn't give to this node. */
  | "NO_SUCH_EDGE"
  /** A result that no verifier vouches for, or that isn't the one in force. */
  | "NOT_VOUCHED"
  /** A security parameter index that is reserved, doubled or in use. */
  | "SPI"
  /** The Diffie-Hellman exchange or the key derivation gave nothing usable. */
  | "KEY"
  /** The node was revoked, its result was taken back, or its place is held by another. */
  | "REVOKED"
  | "WITHDRAWN"
  | "INCUMBENT"
  /** Another launch, or an earlier moment of the launch, than was seen in the same boot. */
  | "CLONED"
  | "ROLLED_BACK"

export class MakeError extends Error {
  override readonly name = "MakeError"
  readonly code: MakeErrorCode
  /** Path of the offending field, such as `edges.inbound`. */
  readonly field: string

  constructor(code: MakeErrorCode, field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

/** @throws MakeError MALFORMED unless `bytes` has exactly `length` bytes. */
export const expectBytes = (field: string, bytes: Uint8Array, length: number): void => {
  if (bytes.length !== length)
    throw new MakeError("MALFORMED", field, `must have ${length} bytes, has ${bytes.length}`)
}
