/** Addresses in documents: every text form is read, one is allowed, and only of addresses that a host can have. */
import { isIPv6 } from "node:net"
import { describe, expect, it } from "vitest"
import { addressFault, familyOf, formatIpv4, formatIpv6, readIpv4, readIpv6 } from "../../schemas/address.ts"

/** Seeded, good enough to choose texts (an LCG of Numerical Recipes). */
const numbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 4_294_967_296) * below)
  }
}

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"))

describe("reading", () => {
  it("takes IPv4 without leading zeros, which some would read as octal", () => {
    expect(readIpv4("10.77.0.1")).toBe(0x0a4d0001)
    expect(readIpv4("255.255.255.255")).toBe(0xffffffff)
    for (const text of [
      "10.77.0.01",
      "010.77.0.1",
      "10.77.0.256",
      "10.77.0",
      "10.77.0.1 ",
      "10.77.0.1\n",
      "",
    ])
      expect(readIpv4(text), JSON.stringify(text)).toBeUndefined()
  })

  it.each([
    ["::", "00000000000000000000000000000000"],
    ["::1", "00000000000000000000000000000001"],
    ["1::", "00010000000000000000000000000000"],
    ["2001:DB8::8:800:200c:417a", "20010db80000000000080800200c417a"],
    ["2001:db8:0:0:8:800:200C:417A", "20010db80000000000080800200c417a"],
    ["1:2:3:4:5:6:7::", "00010002000300040005000600070000"],
    ["::2:3:4:5:6:7:8", "00000002000300040005000600070008"],
    ["::ffff:192.0.2.1", "00000000000000000000ffffc0000201"],
    ["1:2:3:4:5:6:192.0.2.1", "000100020003000400050006c0000201"],
  ])("takes %s", (text, hex) => {
    expect(Buffer.from(readIpv6(text) ?? []).toString("hex")).toBe(hex)
  })

  it.each([
    "",
    ":",
    ":::",
    "1:::2",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4::5:6:7:8",
    "12345::",
    "::g",
    "fe80::1%eth0",
    "[::1]",
    "::1/64",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "::01.2.3.4",
    "1:2:3:4:5:6:7:1.2.3.4",
    "10.77.0.1",
    ":1::",
    "1::2:",
    `${"0".repeat(40)}::1`,
  ])("refuses %j", (text) => {
    expect(readIpv6(text)).toBeUndefined()
  })

  it("takes exactly what the runtime takes, but for zones", () => {
    const parts = ["", "", "0", "00", "1", "db8", "ffff", "fffff", "1.2.3.4", "g", "0db8"]
    const below = numbers(1)
    for (let run = 0; run < 20_000; run++) {
      const text = Array.from({ length: below(10) }, () => parts[below(parts.length)]).join(":")
      expect(readIpv6(text) !== undefined, text).toBe(isIPv6(text))
    }
  })
})

describe("the one text of an address", () => {
  it.each([
    ["20010db8000000000000000000000001", "2001:db8::1"],
    ["20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"],
    ["20010000000000010000000000000001", "2001:0:0:1::1"],
    ["20010db8000000000001000000000001", "2001:db8::1:0:0:1"],
    ["00000000000000000000000000000000", "::"],
    ["00000000000000000000000000000001", "::1"],
    ["00010000000000000000000000000000", "1::"],
    ["0000000000000000abcd000000000000", "::abcd:0:0:0"],
    ["00000000000000000000ffffc0000201", "::ffff:192.0.2.1"],
  ])("of %s is %s", (hex, text) => {
    expect(formatIpv6(bytes(hex))).toBe(text)
  })

  it("leads back to the address, and is what the runtime's own URL writes", () => {
    const below = numbers(2)
    for (let run = 0; run < 5_000; run++) {
      const address = Buffer.alloc(16)
      for (let at = 0; at < 16; at += 2) if (below(2) === 0) address.writeUInt16BE(below(0x1_0000), at)
      const text = formatIpv6(address)
      expect(Buffer.from(readIpv6(text) ?? []).equals(address), text).toBe(true)
      if (!text.includes(".")) expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`)
    }
    expect(formatIpv4(readIpv4("10.77.0.200") ?? 0)).toBe("10.77.0.200")
  })
})

describe("an address in a document", () => {
  const fault = (text: string) => addressFault(text, [4, 6])

  it.each([
    "10.77.0.1",
    "192.0.2.1",
    "1.0.0.0",
    "223.255.255.255",
    "2001:db8::1",
    "fd77::1",
    "64:ff9b::1",
    "::1:0:0:1",
  ])("may be %s", (text) => expect(fault(text)).toBeUndefined())

  it.each([
    ["2001:DB8::1", "must be written 2001:db8::1 (RFC 5952)"],
    ["2001:db8:0::1", "must be written 2001:db8::1 (RFC 5952)"],
    ["2001:0db8::1", "must be written 2001:db8::1 (RFC 5952)"],
    ["2001:db8::10.0.0.1", "must be written 2001:db8::a00:1 (RFC 5952)"],
    ["::", "is the unspecified address"],
    ["::1", "is the loopback address"],
    ["::2", "is in ::/96, which no host has"],
    ["::ffff:10.0.0.1", "is an IPv4 address in disguise: write it as one"],
    ["::ffff:a00:1", "is an IPv4 address in disguise: write it as one"],
    ["ff02::1", "is a multicast address"],
    ["fe80::1", "is a link-local address"],
    ["febf::1", "is a link-local address"],
    ["fec0::1", "is a site-local address, which RFC 3879 took back"],
    ["0.0.0.0", "is an address of no host (0.0.0.0/8)"],
    ["0.1.2.3", "is an address of no host (0.0.0.0/8)"],
    ["127.0.0.1", "is a loopback address"],
    ["169.254.0.1", "is a link-local address"],
    ["224.0.0.1", "is a multicast address"],
    ["239.255.255.255", "is a multicast address"],
    ["240.0.0.1", "is a reserved or broadcast address"],
    ["255.255.255.255", "is a reserved or broadcast address"],
    ["example.org", "is no IPv4 or IPv6 address"],
    ["", "is no IPv4 or IPv6 address"],
  ])("may not be %j: it %s", (text, why) => expect(fault(text)).toBe(why))

  it("is of the family that its field asks for", () => {
    expect(addressFault("10.77.0.1", [6])).toBe("is no IPv6 address")
    expect(addressFault("fd77::1", [4])).toBe("is no IPv4 address")
    expect([familyOf("10.77.0.1"), familyOf("fd77::1")]).toEqual([4, 6])
  })
})
