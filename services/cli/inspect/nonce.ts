/** Whether evidence answers what was asked, where the caller says what that was. */
import { toHex } from "../../common/hex.ts"
import type { Context } from "./context.ts"
import type { Check } from "./inspection.ts"

/** `found` may be longer than the nonce where the rest is zeros: fields of fixed size are filled up so. */
export const checkNonce = (
  found: Uint8Array | undefined,
  where: string,
  { nonce }: Context,
): readonly Check[] => {
  if (nonce === undefined) return []
  const same =
    found !== undefined &&
    found.length >= nonce.length &&
    Buffer.compare(found.subarray(0, nonce.length), nonce) === 0 &&
    found.subarray(nonce.length).every((byte) => byte === 0)
  return [
    {
      name: "nonce",
      result: same ? "passed" : "failed",
      found: found === undefined ? `no ${where}` : toHex(found),
      wanted: toHex(nonce),
    },
  ]
}
