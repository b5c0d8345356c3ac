/** Each rule of a Nitro document and its chain, broken alone in a document that is otherwise signed as it should be. */
import { encode } from "cborg"
import { beforeAll, describe, expect, it } from "vitest"
import { tags, write, writeOid } from "../../services/evidence/der.ts"
import { authority, extension } from "../../services/evidence/emulated/certificates.ts"
import { NitroChainCache } from "../../services/evidence/nitro/chain.ts"
import { NitroError } from "../../services/evidence/nitro/error.ts"
import { type NitroOptions, verifyNitro } from "../../services/evidence/nitro/verify.ts"
import {
  type CertificatePlan,
  documentOf,
  type Envelope,
  leafExtensions,
  madeAt,
  makeNitroLab,
  type NitroLab,
  plainFields,
  plainPcrs,
  sealed,
} from "./evidence-nitro-support.ts"

let lab: NitroLab
beforeAll(() => {
  lab = makeNitroLab()
})

const answer = (document: Uint8Array, of: NitroLab, options: Partial<NitroOptions> = {}): string => {
  const result = verifyNitro({ document }, { now: madeAt, roots: [of.root], ...options })
  if (!(result instanceof NitroError)) return result.emulated ? "believed, emulated" : "believed"
  expect(result.message).toBe(`${result.field}: found ${result.found}, wanted ${result.wanted}`)
  return `${result.code} ${result.field}`
}

describe("a document of a lab", () => {
  it("is believed as emulated where the lab's root is named, and only there", () => {
    const document = documentOf(lab)
    expect(answer(document, lab)).toBe("believed, emulated")
    expect(answer(document, lab, { now: "document" })).toBe("believed, emulated")
    expect(answer(document, makeNitroLab())).toMatch(/^ROOT_UNKNOWN/)
    const { roots: _, ...byDefault } = { now: madeAt, roots: [] }
    expect(verifyNitro({ document }, byDefault)).toMatchObject({ code: "ROOT_UNKNOWN" })
    expect(answer(document, { ...lab, root: { ...lab.root, emulated: false } })).toMatch(/^ROOT_MISLABELLED/)
  })

  it("may carry COSE's tag", () => {
    expect(answer(documentOf(lab, undefined, { tagged: true }), lab)).toBe("believed, emulated")
    const twice = Uint8Array.of(0xd2, ...documentOf(lab, undefined, { tagged: true }))
    expect(answer(twice, lab)).toBe("DOCUMENT_MALFORMED document")
  })

  it("may write its map without a length, as AWS does since 2025", () => {
    const parts = [...plainFields(lab)].flatMap(([name, value]) => [encode(name), encode(value)])
    const payload = Buffer.concat([Uint8Array.of(0xbf), ...parts, Uint8Array.of(0xff)])
    expect(answer(sealed(lab, Uint8Array.from(payload)), lab)).toBe("believed, emulated")
  })

  it("of a NitroTPM is told by the name of its PCRs", () => {
    const document = documentOf(lab, (fields) => {
      fields.set(
        "nitrotpm_pcrs",
        new Map(Array.from({ length: 24 }, (_, i) => [i, new Uint8Array(48).fill(i)])),
      )
      fields.delete("pcrs")
    })
    const result = verifyNitro({ document }, { now: madeAt, roots: [lab.root] })
    expect(result).toMatchObject({ platform: "nitro-tpm", debug: false })
  })

  it.each([
    ["SHA256", 32],
    ["SHA384", 48],
    ["SHA512", 64],
  ])("has PCRs of the length of %s", (digest, length) => {
    for (const each of [32, 48, 64]) {
      const document = documentOf(lab, (fields) => {
        fields.set("digest", digest)
        fields.set("pcrs", plainPcrs(each))
      })
      expect(answer(document, lab)).toBe(
        each === length ? "believed, emulated" : "DOCUMENT_VALUE document.pcrs[0]",
      )
    }
  })

  it("may leave out what is optional, and fill it to the bound", () => {
    for (const name of ["public_key", "user_data", "nonce"]) {
      expect(
        answer(
          documentOf(lab, (f) => f.delete(name)),
          lab,
        ),
      ).toBe("believed, emulated")
      expect(
        answer(
          documentOf(lab, (f) => f.set(name, new Uint8Array(1_024))),
          lab,
        ),
      ).toBe("believed, emulated")
      expect(
        answer(
          documentOf(lab, (f) => f.set(name, new Uint8Array(1_025))),
          lab,
        ),
      ).toBe(`DOCUMENT_VALUE document.${name}`)
      expect(
        answer(
          documentOf(lab, (f) => f.set(name, "text")),
          lab,
        ),
      ).toBe(`DOCUMENT_FIELD document.${name}`)
    }
  })

  it("that ran for debugging is refused, unless that is accepted", () => {
    const zeroed = (...indices: number[]) =>
      documentOf(lab, (fields) => {
        const pcrs = plainPcrs()
        for (const index of indices) pcrs.set(index, new Uint8Array(48))
        fields.set("pcrs", pcrs)
      })
    expect(answer(zeroed(0, 1, 2), lab)).toBe("DEBUG_MODE document.pcrs")
    expect(answer(zeroed(0, 1, 2), lab, { debug: "accept" })).toBe("believed, emulated")
    expect(answer(zeroed(0, 1), lab)).toBe("believed, emulated")
  })
})

describe("fields", () => {
  const bad: readonly [string, (fields: Map<string, unknown>) => void, string][] = [
    ["no module id", (f) => f.delete("module_id"), "DOCUMENT_FIELD document.module_id"],
    [
      "a module id with a line break",
      (f) => f.set("module_id", "i-1\nx"),
      "DOCUMENT_VALUE document.module_id",
    ],
    [
      "a module id that is too long",
      (f) => f.set("module_id", "i".repeat(129)),
      "DOCUMENT_VALUE document.module_id",
    ],
    ["no timestamp", (f) => f.delete("timestamp"), "DOCUMENT_FIELD document.timestamp"],
    ["a timestamp with a fraction", (f) => f.set("timestamp", 1.5), "DOCUMENT_FIELD document.timestamp"],
    ["a timestamp of zero", (f) => f.set("timestamp", 0), "DOCUMENT_VALUE document.timestamp"],
    ["a timestamp after all dates", (f) => f.set("timestamp", 2 ** 52), "DOCUMENT_VALUE document.timestamp"],
    [
      "a timestamp that is no safe integer",
      (f) => f.set("timestamp", 2n ** 63n),
      "DOCUMENT_MALFORMED document.payload",
    ],
    ["an unknown digest", (f) => f.set("digest", "MD5"), "DOCUMENT_VALUE document.digest"],
    ["no digest", (f) => f.delete("digest"), "DOCUMENT_FIELD document.digest"],
    ["no PCRs", (f) => f.delete("pcrs"), "DOCUMENT_FIELD document.pcrs"],
    ["PCRs of both kinds", (f) => f.set("nitrotpm_pcrs", plainPcrs()), "DOCUMENT_FIELD document.pcrs"],
    ["PCRs as a list", (f) => f.set("pcrs", [1]), "DOCUMENT_FIELD document.pcrs"],
    [
      "a PCR 32",
      (f) => f.set("pcrs", plainPcrs().set(32, new Uint8Array(48))),
      "DOCUMENT_VALUE document.pcrs",
    ],
    [
      "a negative PCR",
      (f) => f.set("pcrs", plainPcrs().set(-1, new Uint8Array(48))),
      "DOCUMENT_VALUE document.pcrs",
    ],
    [
      "a PCR by name",
      (f) => f.set("pcrs", plainPcrs().set("0", new Uint8Array(48))),
      "DOCUMENT_VALUE document.pcrs",
    ],
    ["a PCR that is text", (f) => f.set("pcrs", plainPcrs().set(3, "x")), "DOCUMENT_FIELD document.pcrs[3]"],
    [
      "no PCR 1",
      (f) => f.set("pcrs", new Map([...plainPcrs()].filter(([index]) => index !== 1))),
      "DOCUMENT_FIELD document.pcrs[1]",
    ],
    ["no certificate", (f) => f.delete("certificate"), "DOCUMENT_FIELD document.certificate"],
    [
      "a long certificate",
      (f) => f.set("certificate", new Uint8Array(1_025)),
      "DOCUMENT_VALUE document.certificate",
    ],
    ["no cabundle", (f) => f.delete("cabundle"), "DOCUMENT_FIELD document.cabundle"],
    ["an empty cabundle", (f) => f.set("cabundle", []), "CHAIN_LENGTH document.cabundle"],
    [
      "nine issuers",
      (f) => f.set("cabundle", Array(9).fill(new Uint8Array(3))),
      "CHAIN_LENGTH document.cabundle",
    ],
    ["an issuer that is null", (f) => f.set("cabundle", [null]), "DOCUMENT_FIELD document.cabundle[0]"],
    ["a field that nobody knows", (f) => f.set("extra", 1), "DOCUMENT_FIELD document.payload"],
    ["deep nesting", (f) => f.set("nonce", nested(400)), "DOCUMENT_MALFORMED document.payload"],
    ["many values", (f) => f.set("nonce", Array(300).fill(1)), "DOCUMENT_MALFORMED document.payload"],
  ]
  const nested = (depth: number): unknown => {
    let value: unknown = 1
    for (let i = 0; i < depth; i++) value = [value]
    return value
  }

  it.each(bad)("refuse %s", (_, change, expected) => {
    expect(answer(documentOf(lab, change), lab)).toBe(expected)
  })

  it("refuse as many brackets as fit", () => {
    expect(answer(sealed(lab, new Uint8Array(16_000).fill(0x81)), lab)).toBe(
      "DOCUMENT_MALFORMED document.payload",
    )
  })

  it("refuse a name that stands twice", () => {
    const parts = [...plainFields(lab), ["nonce", null] as const].flatMap(([n, v]) => [encode(n), encode(v)])
    const payload = Uint8Array.from(Buffer.concat([Uint8Array.of(0xaa), ...parts]))
    expect(answer(sealed(lab, payload), lab)).toBe("DOCUMENT_MALFORMED document.payload")
  })

  it("refuse a payload that isn't a map, or is followed by something", () => {
    expect(answer(sealed(lab, encode([1])), lab)).toBe("DOCUMENT_MALFORMED document.payload")
    const more = Uint8Array.of(...encode(plainFields(lab)), 0)
    expect(answer(sealed(lab, more), lab)).toBe("DOCUMENT_MALFORMED document.payload")
  })
})

describe("the envelope", () => {
  const bad: readonly [string, Envelope, string][] = [
    [
      "another algorithm",
      { header: Uint8Array.of(0xa1, 0x01, 0x26) },
      "DOCUMENT_ALGORITHM document.protected",
    ],
    ["no algorithm", { header: new Uint8Array(0) }, "DOCUMENT_ALGORITHM document.protected"],
    [
      "a second protected header",
      { header: Uint8Array.of(0xa2, 0x01, 0x38, 0x22, 0x04, 0x40) },
      "DOCUMENT_ALGORITHM document.protected",
    ],
    ["a header that isn't bytes", { header: "x" }, "DOCUMENT_ALGORITHM document.protected"],
    [
      "an unprotected header",
      { unprotected: new Map([[4, new Uint8Array(1)]]) },
      "DOCUMENT_HEADER document.unprotected",
    ],
    ["an unprotected header of another type", { unprotected: [] }, "DOCUMENT_HEADER document.unprotected"],
    ["a short signature", { signature: new Uint8Array(95) }, "DOCUMENT_VALUE document.signature"],
    ["a signature of zeros", { signature: new Uint8Array(96) }, "DOCUMENT_SIGNATURE document.signature"],
  ]
  it.each(bad)("refuses %s", (_, envelope, expected) => {
    expect(answer(documentOf(lab, undefined, envelope), lab)).toBe(expected)
  })

  it("refuses what is empty, too long, or followed by something", () => {
    const document = documentOf(lab)
    expect(answer(new Uint8Array(0), lab)).toBe("DOCUMENT_LENGTH document")
    expect(answer(new Uint8Array(16_385), lab)).toBe("DOCUMENT_LENGTH document")
    expect(answer(Uint8Array.of(...document, 0), lab)).toBe("DOCUMENT_MALFORMED document")
    expect(answer(Uint8Array.of(0xd2), lab)).toBe("DOCUMENT_MALFORMED document")
    expect(answer(encode({ a: 1 }), lab)).toBe("DOCUMENT_MALFORMED document")
  })

  it("refuses a document that another leaf signed", () => {
    const other = makeNitroLab()
    const document = sealed(other, encode(plainFields(lab)))
    expect(answer(document, lab)).toBe("DOCUMENT_SIGNATURE document.signature")
  })
})

describe("the chain", () => {
  const at = (place: number, change: Partial<CertificatePlan>) =>
    makeNitroLab((plan, i) => (i === place ? { ...plan, ...change } : plan))
  const oid = (dotted: string, critical: boolean) => extension(dotted, write(tags.null), critical)
  const p256 = write(
    tags.sequence,
    write(tags.sequence, writeOid("1.2.840.10045.2.1"), writeOid("1.2.840.10045.3.1.7")),
    write(tags.bitString, new Uint8Array(66)),
  )

  const bad: readonly [string, () => NitroLab, string][] = [
    [
      "an issuer that is no authority",
      () => at(1, { extensions: leafExtensions }),
      "CERTIFICATE_ROLE certificates.issuer1.basicConstraints",
    ],
    [
      "a leaf that is an authority",
      () => at(3, { extensions: authority() }),
      "CERTIFICATE_ROLE certificates.leaf.basicConstraints",
    ],
    [
      "an issuer without key usage",
      () => at(1, { extensions: authority(1).slice(0, 1) }),
      "CERTIFICATE_ROLE certificates.issuer1.keyUsage",
    ],
    [
      "an issuer that may only sign data",
      () => at(2, { extensions: [...authority(0).slice(0, 1), ...leafExtensions.slice(1)] }),
      "CERTIFICATE_ROLE certificates.issuer2.keyUsage",
    ],
    [
      "a leaf that may not sign data",
      () => at(3, { extensions: [...leafExtensions.slice(0, 1), ...authority().slice(1)] }),
      "CERTIFICATE_ROLE certificates.leaf.keyUsage",
    ],
    [
      "a path that is too long",
      () => at(1, { extensions: authority(0) }),
      "CERTIFICATE_PATH_LENGTH certificates.issuer1.basicConstraints",
    ],
    [
      "a root that allows no issuers",
      () => at(0, { extensions: authority(0) }),
      "CERTIFICATE_PATH_LENGTH certificates.root.basicConstraints",
    ],
    [
      "an unknown critical extension",
      () => at(2, { extensions: [...authority(0), oid("1.2.3.4", true)] }),
      "CERTIFICATE_EXTENSION certificates.issuer2.1.2.3.4",
    ],
    [
      "an extension that stands twice",
      () => at(3, { extensions: [...leafExtensions, oid("1.2.3.4", false), oid("1.2.3.4", false)] }),
      "CERTIFICATE_EXTENSION certificates.leaf.1.2.3.4",
    ],
    [
      "another issuer's name",
      () => at(2, { issuer: "somebody" }),
      "CERTIFICATE_ISSUER certificates.issuer2.issuer",
    ],
    [
      "an issuer that ran out before the document was made",
      () => at(2, { notAfter: new Date(madeAt.getTime() - 1_000) }),
      "CERTIFICATE_EXPIRED certificates.issuer2.notAfter",
    ],
    [
      "a leaf made after the document",
      () => at(3, { notBefore: new Date(madeAt.getTime() + 1_000) }),
      "CERTIFICATE_NOT_YET_VALID certificates.leaf.notBefore",
    ],
    [
      "a signature algorithm with another hash",
      () => at(1, { algorithm: write(tags.sequence, writeOid("1.2.840.10045.4.3.2")) }),
      "CERTIFICATE_ALGORITHM certificates.issuer1.signatureAlgorithm",
    ],
    [
      "a key on another curve",
      () => at(3, { spki: p256 }),
      "CERTIFICATE_ALGORITHM certificates.leaf.publicKey",
    ],
  ]
  it.each(bad)("refuses %s", (_, make, expected) => {
    const of = make()
    expect(answer(documentOf(of), of)).toBe(expected)
    expect(answer(documentOf(of), of, { cache: new NitroChainCache() })).toBe(expected)
  })

  it("passes over an extension that it doesn't know, if that isn't critical", () => {
    const of = at(3, { extensions: [...leafExtensions, oid("1.2.3.4", false)] })
    expect(answer(documentOf(of), of)).toBe("believed, emulated")
  })

  it("refuses issuers in another order, missing, or too many", () => {
    const [root, region, instance] = lab.cabundle
    const of = (...ders: unknown[]) => documentOf(lab, (fields) => fields.set("cabundle", ders))
    expect(answer(of(root, instance, region), lab)).toMatch(/^CERTIFICATE_ISSUER/)
    expect(answer(of(root, region), lab)).toMatch(/^CERTIFICATE_ISSUER/)
    expect(answer(of(region, instance), lab)).toMatch(/^ROOT_UNKNOWN/)
    expect(answer(of(root, region, instance, instance), lab)).toMatch(/^CERTIFICATE_/)
    expect(answer(of(root), lab)).toMatch(/^CERTIFICATE_ISSUER/)
  })

  it("refuses a root of the right name and another key", () => {
    const false_ = makeNitroLab()
    expect(answer(documentOf(false_), lab)).toMatch(/^ROOT_UNKNOWN/)
  })

  it("remembers signatures, but neither dates nor roots", () => {
    const cache = new NitroChainCache(2)
    const document = documentOf(lab)
    expect(answer(document, lab, { cache })).toBe("believed, emulated")
    expect(answer(document, lab, { cache })).toBe("believed, emulated")
    const later = new Date(madeAt.getTime() + 4 * 3_600_000)
    expect(answer(document, lab, { cache, now: later })).toBe(
      "CERTIFICATE_EXPIRED certificates.leaf.notAfter",
    )
    expect(answer(document, lab, { cache, roots: [] })).toMatch(/^ROOT_UNKNOWN/)
    expect(answer(document, lab, { cache, now: "document" })).toBe("believed, emulated")
    for (let i = 0; i < 3; i++) {
      const other = makeNitroLab()
      expect(answer(documentOf(other), other, { cache })).toBe("believed, emulated")
    }
    expect(answer(document, lab, { cache })).toBe("believed, emulated")
  })

  it("refuses the same signature in a longer encoding", () => {
    const of = at(2, { paddedSignature: true })
    expect(answer(documentOf(of), of)).toBe("CERTIFICATE_MALFORMED certificates.issuer2")
  })
})
