/**
 * Addresses as people write them and as headers hold them. A document has one text for one address (RFC 5952), so that
 * equal addresses are equal texts; and only addresses that one host can have everywhere: nothing that means several hosts,
 * no host, this host, or a host on this link.
 */
import { Schema } from "effect"

export type Family = 4 | 6

/** Without leading zeros: some read them as octal. */
const IPV4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/

/** An IPv4 address in four decimal parts as a number: 10.0.0.1 is 0x0a000001. */
export const readIpv4 = (text: string): number | undefined =>
  IPV4.test(text) ? text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0) : undefined

/** The longest text of RFC 4291, section 2.2: eight groups, or six and a dotted tail. */
const TEXT_MAX = 45

/** `a:b:c` as its 16-bit groups; the last may be an IPv4 address where `tail` allows it. */
const readGroups = (text: string, tail: boolean): ReadonlyArray<number> | undefined => {
  if (text === "") return []
  const parts = text.split(":")
  const groups: number[] = []
  for (const [i, part] of parts.entries()) {
    const dotted = tail && i === parts.length - 1 && part.includes(".") ? readIpv4(part) : undefined
    if (dotted !== undefined) groups.push(dotted >>> 16, dotted & 0xffff)
    else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16))
    else return undefined
  }
  return groups
}

/** An IPv6 address in any text of RFC 4291, section 2.2, without a zone: its 16 bytes as in a header. */
export const readIpv6 = (text: string): Uint8Array | undefined => {
  if (text.length > TEXT_MAX) return undefined
  const [before = "", after, more] = text.split("::")
  if (more !== undefined) return undefined
  const head = readGroups(before, after === undefined)
  const rest = after === undefined ? [] : readGroups(after, true)
  if (head === undefined || rest === undefined) return undefined
  const zeros = 8 - head.length - rest.length
  // `::` stands for at least one group (RFC 4291 says "one or more").
  if (after === undefined ? zeros !== 0 : zeros < 1) return undefined
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  for (const [i, group] of [...head, ...Array(zeros).fill(0), ...rest].entries()) view.setUint16(i * 2, group)
  return bytes
}

/** An address as the data plane's records have it: IPv4 as a number, IPv6 as its 16 bytes. */
export const readAddress = (text: string): number | Uint8Array | undefined => readIpv4(text) ?? readIpv6(text)

/** The bytes of an address as they are in a header, 4 or 16. Throws for what is no address. */
export const addressBytes = (text: string): Uint8Array => {
  const address = readAddress(text)
  if (address === undefined) throw new RangeError(`no address: ${text.slice(0, TEXT_MAX)}`)
  if (typeof address !== "number") return address
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, address)
  return bytes
}

export const formatIpv4 = (address: number): string =>
  [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".")

/** Where the longest run of two or more zero groups begins and ends, the first of equals (RFC 5952, section 4.2). */
const zeroRun = (groups: ReadonlyArray<number>): readonly [number, number] => {
  let [from, to] = [0, 0]
  for (let i = 0; i < groups.length; i++) {
    let end = i
    while (groups[end] === 0) end += 1
    if (end - i > Math.max(1, to - from)) [from, to] = [i, end]
    if (end > i) i = end
  }
  return [from, to]
}

/** 16 bytes as the one text of RFC 5952. */
export const formatIpv6 = (address: Uint8Array): string => {
  if (address.length !== 16) throw new RangeError(`an IPv6 address has 16 bytes, not ${address.length}`)
  const view = new DataView(address.buffer, address.byteOffset, 16)
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2))
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0))
    return `::ffff:${formatIpv4(view.getUint32(12))}`
  const hex = (part: ReadonlyArray<number>): string => part.map((group) => group.toString(16)).join(":")
  const [from, to] = zeroRun(groups)
  return to === from ? hex(groups) : `${hex(groups.slice(0, from))}::${hex(groups.slice(to))}`
}

/** Why no host that others can name has this address; undefined when one may. */
const ipv4Fault = (address: number): string | undefined => {
  const first = address >>> 24
  if (first === 0) return "is an address of no host (0.0.0.0/8)"
  if (first === 127) return "is a loopback address"
  if (address >>> 16 === 0xa9fe) return "is a link-local address"
  if (first >= 224 && first < 240) return "is a multicast address"
  return first >= 240 ? "is a reserved or broadcast address" : undefined
}

const ipv6Fault = (a: Uint8Array): string | undefined => {
  const [first = 0, second = 0] = a
  if (first === 0xff) return "is a multicast address"
  if (first === 0xfe && second >= 0x80 && second < 0xc0) return "is a link-local address"
  if (first === 0xfe && second >= 0xc0) return "is a site-local address, which RFC 3879 took back"
  if (a.subarray(0, 10).some((byte) => byte !== 0)) return undefined
  const [mark = 0, mark2 = 0] = a.subarray(10)
  if (mark === 0xff && mark2 === 0xff) return "is an IPv4 address in disguise: write it as one"
  if (mark !== 0 || mark2 !== 0) return undefined
  const low = new DataView(a.buffer, a.byteOffset).getUint32(12)
  if (low === 0) return "is the unspecified address"
  return low === 1 ? "is the loopback address" : "is in ::/96, which no host has"
}

/** Why `text` can't stand in a document as the address of a host; undefined when it can. */
export const addressFault = (text: string, families: ReadonlyArray<Family>): string | undefined => {
  const four = families.includes(4) ? readIpv4(text) : undefined
  if (four !== undefined) return ipv4Fault(four)
  const six = families.includes(6) ? readIpv6(text) : undefined
  if (six === undefined) return `is no ${families.map((family) => `IPv${family}`).join(" or ")} address`
  const canonical = formatIpv6(six)
  return ipv6Fault(six) ?? (text === canonical ? undefined : `must be written ${canonical} (RFC 5952)`)
}

/** Of an address that `addressFault` finds nothing wrong with. */
export const familyOf = (text: string): Family => (text.includes(":") ? 6 : 4)

const address = (...families: ReadonlyArray<Family>) =>
  Schema.String.check(
    Schema.makeFilter<string>(
      (text) => {
        const fault = addressFault(text, families)
        return fault === undefined ? undefined : `"${text.slice(0, TEXT_MAX)}" ${fault}`
      },
      { representation: { id: "vouchsafe/address", payload: { families } } },
    ),
  )

export const Ipv4 = address(4)
export const Ipv6 = address(6)
/** Either family. */
export const IpAddress = address(4, 6)
