/** The node's own address on the wire, when it changes under way: DHCP, another network, an operator. */
import { formatIpv4, formatIpv6 } from "../../schemas/address.ts"
import type { Address } from "../common/kernel/rtnetlink.ts"
import type { HostAddresses } from "./config.ts"

const number4 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)

/**
 * Which addresses to go by from now on. One that is still there stays; one that is gone gives way to the first usable one of
 * its family, and stays where there is none: a device without an address sends nothing anyway.
 */
export const followAddresses = (current: HostAddresses, present: ReadonlyArray<Address>): HostAddresses => {
  const four = present
    .filter(({ family, usable }) => family === 4 && usable)
    .map(({ bytes }) => number4(bytes))
  const six = present.filter(({ family, usable }) => family === 6 && usable).map(({ bytes }) => bytes)
  const { ipv4, ipv6 } = current
  return {
    ipv4: ipv4 === undefined || four.includes(ipv4) ? ipv4 : (four[0] ?? ipv4),
    ipv6: ipv6 === undefined || six.some((one) => Buffer.compare(one, ipv6) === 0) ? ipv6 : (six[0] ?? ipv6),
  }
}

export const sameAddresses = (a: HostAddresses, b: HostAddresses): boolean =>
  a.ipv4 === b.ipv4 && Buffer.compare(a.ipv6 ?? new Uint8Array(0), b.ipv6 ?? new Uint8Array(0)) === 0

/** For people. */
export const describeAddresses = ({ ipv4, ipv6 }: HostAddresses): string =>
  [ipv4 === undefined ? [] : [formatIpv4(ipv4)], ipv6 === undefined ? [] : [formatIpv6(ipv6)]]
    .flat()
    .join(" ")

interface Wire {
  /** Whether there is news of the device since the last call. */
  readonly changed: () => boolean
  readonly present: () => ReadonlyArray<Address>
  /** Has the data plane go by these. */
  readonly move: (now: HostAddresses) => void
}

/** Goes by the addresses that the data plane was last told; what could not be followed is followed at a later look. */
export class AddressFollower {
  #current: HostAddresses
  /** At first too: what changed before there was news of the device. */
  #pending = true
  readonly #wire: Wire

  constructor(current: HostAddresses, wire: Wire) {
    this.#current = current
    this.#wire = wire
  }

  get current(): HostAddresses {
    return this.#current
  }

  /** Whether the node has moved. Throws what reading or moving throws. @param may whether the data plane may be written */
  look(may: boolean): boolean {
    if (this.#wire.changed()) this.#pending = true
    if (!this.#pending || !may) return false
    const now = followAddresses(this.#current, this.#wire.present())
    const moved = !sameAddresses(this.#current, now)
    if (moved) this.#wire.move(now)
    this.#current = now
    this.#pending = false
    return moved
  }
}
