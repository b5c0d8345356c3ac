/** The common name of an X.509 name (RFC 5280, 4.1.2.4), for choosing only: whoever is chosen must then verify. */
import { readAll, readOnly, tags } from "../der.ts"
import { toHex } from "../text.ts"

const commonNameOid = "0603550403"
const mostParts = 16
const textTags = new Set<number>([tags.utf8String, 0x13, tags.ia5String, 0x14])

/**
 * @param name DER
 * @returns "" where there is none, or several
 * @throws DerError
 */
export const commonNameIn = (name: Uint8Array): string => {
  const found = readAll(readOnly(name, tags.sequence).content, mostParts).flatMap(({ raw }) =>
    readAll(readOnly(raw, tags.set).content, mostParts).flatMap((attribute) => {
      const [oid, value] = readAll(readOnly(attribute.raw, tags.sequence).content, 2)
      if (oid === undefined || value === undefined || !textTags.has(value.tag)) return []
      return toHex(oid.raw) === commonNameOid ? [Buffer.from(value.content).toString("latin1")] : []
    }),
  )
  return found.length === 1 ? (found[0] ?? "") : ""
}
