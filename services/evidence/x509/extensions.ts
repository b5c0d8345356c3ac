/** Extensions of a certificate, whose signature held. */
import type { X509Certificate } from "./decoded.ts"
import type { Refuse } from "./refuse.ts"

/**
 * Extensions of RFC 5280 that are looked at or that may be passed over: key usage, constraints, key ids, where revocation
 * lists are found.
 */
export const standardExtensions: readonly string[] = [
  "2.5.29.14",
  "2.5.29.15",
  "2.5.29.19",
  "2.5.29.31",
  "2.5.29.35",
]

/**
 * None may come twice, and none that isn't known may be critical.
 * @returns values by OID of those that aren't known
 */
export const otherExtensions = (
  { extensions }: X509Certificate,
  known: ReadonlySet<string>,
  refuse: Refuse,
): ReadonlyMap<string, Uint8Array> => {
  const seen = new Set<string>()
  const others = new Map<string, Uint8Array>()
  for (const { type, critical, value } of extensions) {
    if (seen.has(type)) throw refuse("CERTIFICATE_EXTENSION", type, "twice", "once")
    seen.add(type)
    if (known.has(type)) continue
    if (critical)
      throw refuse("CERTIFICATE_EXTENSION", type, "critical", "only extensions that are understood")
    others.set(type, new Uint8Array(value))
  }
  return others
}
