/** Addresses as records have them. */
import { formatIpv6 } from "../../../schemas/address.ts"
import { invalid } from "./errors.ts"
import { u8, u32 } from "./record-bytes.ts"

/** An IP address of either family: IPv4 as a number (10.0.0.1 is 0x0a000001), IPv6 as its 16 bytes. */
export type Address = number | Uint8Array

export const sameAddress = (a: Address | undefined, b: Address | undefined): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : a === b

/** "10.1.2.3" as a number; refuses anything that isn't four decimal octets without leading zeros. */
export const parseIpv4 = (text: string): number => {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text))
    throw invalid("parse", "address", "is not IPv4")
  return text.split(".").reduce((sum, octet) => sum * 256 + u8(Number(octet), "octet"), 0)
}

export const formatAddress = (address: Address): string =>
  typeof address === "number" ? formatIpv4(address) : formatIpv6(address)

export const formatIpv4 = (address: number): string =>
  [24, 16, 8, 0].map((shift) => (u32(address, "address") >>> shift) & 0xff).join(".")
