/** EFI_GUIDs: the first three parts are little-endian. */
export { guidText } from "../eventlog/uefi.ts"

/** The 16 bytes of a GUID's text. */
export const guidBytes = (text: string): Uint8Array => {
  const [a = "", b = "", c = "", d = "", e = ""] = text.split("-")
  const swapped = (part: string) => Uint8Array.from(Buffer.from(part, "hex")).reverse()
  return Uint8Array.from(
    Buffer.concat([swapped(a), swapped(b), swapped(c), Buffer.from(d, "hex"), Buffer.from(e, "hex")]),
  )
}
