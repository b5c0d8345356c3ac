/** The table of certificates that an SNP host writes: taken apart within its bounds, whatever stands in it. */
import { beforeAll, describe, expect, it } from "vitest"
import { chainOf, ProviderError, parseCertificateTable } from "../../services/evidence/providers/index.ts"
import { certificateTable, encodeEntries, guidBytes, tableGuids } from "../support/certificate-table.ts"
import { Random } from "./crypto-support.ts"
import { makeChip, makeRoot } from "./evidence-support.ts"

let vcek: Uint8Array
let ask: Uint8Array
let ark: Uint8Array
beforeAll(() => {
  const [leaf, middle, top] = makeChip(makeRoot()).certificates
  if (leaf === undefined || middle === undefined || top === undefined) throw new Error("no chain")
  ;[vcek, ask, ark] = [leaf, middle, top]
})

const refusal = (act: () => unknown): ProviderError => {
  try {
    act()
  } catch (error) {
    if (error instanceof ProviderError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

const end = { guid: new Uint8Array(16), offset: 0, length: 0 }

describe("a host's table of certificates", () => {
  it("may have any order: the chain is leaf first", () => {
    for (const table of [
      { vcek, ask, ark },
      { ark, ask, vcek },
      { ask, vcek, crl: new Uint8Array(9), ark },
    ])
      expect(chainOf(parseCertificateTable(certificateTable(table)), "vcek")).toEqual([vcek, ask, ark])
  })

  it("may lack some: half a chain is none", () => {
    const chain = (table: Parameters<typeof certificateTable>[0], leaf: "vcek" | "vlek" = "vcek") =>
      chainOf(parseCertificateTable(certificateTable(table)), leaf)
    for (const some of [{ vcek, ask }, { vcek, ark }, { ask, ark }, { vcek }]) expect(chain(some)).toEqual([])
    expect(chain({})).toEqual([])
    // Of two leaves, the one that signed.
    expect(chain({ vcek, vlek: ask, ask, ark }, "vlek")).toEqual([ask, ask, ark])
    expect(chain({ vcek, ask, ark }, "vlek")).toEqual([])
  })

  it("has GUIDs as their text reads, to the byte, or in the mixed order of other tables", () => {
    const table = certificateTable({ vcek })
    expect(Buffer.from(table.subarray(0, 16)).toString("hex")).toBe("63da758de6644564adc5f4b93be8accd")
    const mixed = Uint8Array.from(table)
    mixed.set(Buffer.from("8d75da6364e66445adc5f4b93be8accd", "hex"))
    expect(parseCertificateTable(mixed)).toEqual({ vcek })
    const other = Uint8Array.from(table)
    other.set(Buffer.from("cdace83bb9f4c5ad644564e68d75da63", "hex"))
    expect(parseCertificateTable(other)).toEqual({})
  })

  it("may have PEM and padding", () => {
    const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(vcek)
      .toString("base64")
      .replaceAll(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`
    const padded = (filler: number) => Uint8Array.from([...ask, ...new Array<number>(40).fill(filler)])
    const read = (bytes: Uint8Array) => parseCertificateTable(certificateTable({ vcek: bytes })).vcek
    expect(read(Buffer.from(pem))).toEqual(vcek)
    expect(read(Buffer.from(`${pem}\0\0\0`))).toEqual(vcek)
    expect(read(padded(0))).toEqual(ask)
    expect(read(padded(0xff))).toEqual(ask)
    expect(refusal(() => read(padded(7))).code).toBe("MALFORMED")
    expect(refusal(() => read(Uint8Array.from([...ask, ...vcek]))).code).toBe("MALFORMED")
    expect(refusal(() => read(Buffer.from(`${pem}${pem}`))).code).toBe("MALFORMED")
  })

  it.each([
    ["that points behind the end", 4_000, 10],
    ["that reaches over the end", 48, 100],
    ["whose sum wraps", 0xffff_ffff, 2],
    ["whose length wraps", 2, 0xffff_ffff],
  ])("is refused with an entry %s", (_, offset, length) => {
    const blob = Buffer.concat([
      encodeEntries([{ guid: guidBytes(tableGuids.vcek), offset, length }, end]),
      new Uint8Array(40),
    ])
    expect(refusal(() => parseCertificateTable(blob))).toMatchObject({
      code: "MALFORMED",
      field: "auxblob.entries[0]",
    })
  })

  it("is refused without an end, with one certificate twice, and with what is none", () => {
    const entry = { guid: guidBytes(tableGuids.crl), offset: 0, length: 8 }
    expect(refusal(() => parseCertificateTable(new Uint8Array(0)))).toMatchObject({ code: "MALFORMED" })
    expect(refusal(() => parseCertificateTable(new Uint8Array(23)))).toMatchObject({ code: "MALFORMED" })
    expect(refusal(() => parseCertificateTable(encodeEntries(new Array(9).fill(entry))))).toMatchObject({
      field: "auxblob.entries[9]",
    })
    const many = encodeEntries([...new Array(64).fill(entry), end])
    expect(refusal(() => parseCertificateTable(many))).toMatchObject({ field: "auxblob.entries[64]" })
    const twice = { guid: guidBytes(tableGuids.ask), offset: 72, length: ask.length }
    const blob = Buffer.concat([encodeEntries([twice, twice, end]), ask])
    expect(refusal(() => parseCertificateTable(blob))).toMatchObject({ found: "ask twice" })
    expect(
      refusal(() => parseCertificateTable(certificateTable({ vcek: new Uint8Array(90) }))),
    ).toMatchObject({
      code: "MALFORMED",
      field: "auxblob.vcek",
    })
    expect(
      refusal(() => parseCertificateTable(certificateTable({ vcek: ask.subarray(0, ask.length - 1) }))).code,
    ).toBe("MALFORMED")
  })

  it("may not bring a certificate that no message could carry", () => {
    const large = new Uint8Array(9_004)
    large.set([0x30, 0x82, 9_000 >> 8, 9_000 & 0xff])
    expect(refusal(() => parseCertificateTable(certificateTable({ ask: large })))).toMatchObject({
      code: "LENGTH",
      field: "auxblob.ask",
    })
  })

  it("of 5,000 changed ones ends in a value or a typed error, and no certificate is made up", () => {
    const random = new Random("certificate tables")
    const good = certificateTable({ vcek, ask, ark })
    const known = new Set([vcek, ask, ark].map((one) => Buffer.from(one).toString("hex")))
    let read = 0
    for (let i = 0; i < 5_000; i++) {
      const blob = Uint8Array.from(good)
      for (let n = 1 + random.below(3); n > 0; n--)
        blob[random.below(i % 2 ? 96 : blob.length)] = random.below(256)
      try {
        const table = parseCertificateTable(blob)
        read++
        for (const one of Object.values(table)) expect(one[0]).toBe(0x30)
        if (i % 2)
          for (const one of Object.values(table)) expect(known).toContain(Buffer.from(one).toString("hex"))
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error
      }
    }
    expect(read).toBeGreaterThan(100)
    for (let i = 0; i < 5_000; i++) {
      try {
        parseCertificateTable(random.bytes(random.below(600)))
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error
      }
    }
  })
})
