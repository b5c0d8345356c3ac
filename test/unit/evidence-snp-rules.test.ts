/** Each rule of the verifier by itself: evidence that is right in everything else, made on an emulated platform. */
import { beforeAll, describe, expect, it } from "vitest"
import { crypto } from "../../services/common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../services/common/crypto/native.ts"
import { tags, write, writeBitString, writeInteger, writeOid } from "../../services/evidence/der.ts"
import {
  authority,
  type CertificateContent,
  extension,
  p384Spki,
  signCertificate,
  type VcekContent,
  vcekExtensions,
} from "../../services/evidence/emulated/certificates.ts"
import {
  type EmulatedChip,
  type EmulatedRoot,
  launchGuest,
  SnpError,
  type SnpErrorCode,
  verifyReport,
} from "../../services/evidence/index.ts"
import { extensionOf, tcbExtensionOf } from "../../services/evidence/snp/endorsement.ts"
import { at } from "../../services/evidence/snp/report.ts"
import { makeChip, makeRoot, measurement, now, reportData, resigned } from "./evidence-support.ts"

let root: EmulatedRoot
let chip: EmulatedChip
let report: Uint8Array

beforeAll(() => {
  root = makeRoot()
  chip = makeChip(root)
  report = launchGuest(chip, { measurement }).report(reportData)
})

const verify = (changed: Uint8Array, certificates: readonly Uint8Array[] = chip.certificates) =>
  verifyReport({ report: changed, certificates }, { roots: [root.hardwareRoot], now })

const expectRefused = (result: ReturnType<typeof verify>, code: SnpErrorCode, field?: string): void => {
  if (!(result instanceof SnpError)) expect.fail("was believed")
  expect(result.code).toBe(code)
  if (field !== undefined) expect(result.field).toBe(field)
  expect(result.found.length).toBeGreaterThan(0)
  expect(result.wanted.length).toBeGreaterThan(0)
}

const changed = (change: (view: DataView) => void): Uint8Array => resigned(chip, report, change)

describe("a report", () => {
  it("is believed when it is only signed again", () => {
    expect(verify(changed(() => undefined))).not.toBeInstanceOf(SnpError)
  })

  it.each([0, 1, 1_183, 1_185, 4_096])("of %i bytes is refused", (length) => {
    expectRefused(verify(new Uint8Array(length)), "REPORT_LENGTH", "report")
  })

  it.each([0, 1, 6, 7, 0xffff_ffff])("of version %i is refused by name", (version) => {
    expectRefused(
      verify(changed((view) => view.setUint32(at.version, version, true))),
      "REPORT_VERSION",
      "report.version",
    )
  })

  it("of version 4 is read as version 3, with version 5's mitigations where it fills them", () => {
    const four = (mitigations: bigint) =>
      verify(
        changed((view) => {
          view.setUint32(at.version, 4, true)
          view.setBigUint64(at.launchMitigations, mitigations, true)
          view.setUint8(0x208, mitigations === 2n ? 1 : 0)
        }),
      )
    expect(four(0n)).toMatchObject({
      report: { version: 4, cpuid: { family: 0x19 }, launchMitigations: 0n, currentMitigations: 0n },
    })
    expect(four(1n)).toMatchObject({ report: { launchMitigations: 1n, currentMitigations: 0n } })
    expectRefused(four(2n), "REPORT_RESERVED", "report[0x208]")
  })

  it("whose flags and digests of keys don't fit together is refused", () => {
    const keys = (authorEnabled: boolean, author: number, id: number, masked = false) =>
      verify(
        changed((view) => {
          view.setUint32(at.signer, (authorEnabled ? 1 : 0) | (masked ? 2 : 0), true)
          view.setUint8(at.authorKeyDigest, author)
          view.setUint8(at.idKeyDigest, id)
        }),
      )
    expect(keys(true, 1, 1)).toMatchObject({ report: { authorKeyEnabled: true } })
    expect(keys(false, 0, 1)).toMatchObject({ report: { authorKeyEnabled: false } })
    expectRefused(keys(true, 0, 1), "REPORT_VALUE", "report.authorKeyDigest")
    expectRefused(keys(false, 1, 1), "REPORT_VALUE", "report.authorKeyDigest")
    expectRefused(keys(true, 1, 0), "REPORT_VALUE", "report.idKeyDigest")
    expectRefused(keys(false, 0, 0, true), "REPORT_VALUE", "report.signer")
  })

  it("with any reserved byte set is refused, and the byte is named", () => {
    const reserved = [
      [0x4c, 0x50],
      [0x18b, 0x1a0],
      [0x1eb, 0x1ec],
      [0x1ef, 0x1f0],
      [0x1f8, 0x2a0],
      [0x330, 0x4a0],
    ] as const
    for (const [from, to] of reserved)
      for (let i = from; i < to; i++)
        expectRefused(
          verify(changed((view) => view.setUint8(i, 1))),
          "REPORT_RESERVED",
          `report[0x${i.toString(16)}]`,
        )
  })

  it("of version 2 has no CPUID, and of version 5 has mitigations", () => {
    const two = (view: DataView) => view.setUint32(at.version, 2, true)
    expectRefused(verify(changed(two)), "REPORT_RESERVED", "report[0x188]")
    const five = verify(
      changed((view) => {
        view.setUint32(at.version, 5, true)
        view.setBigUint64(at.launchMitigations, 0x0bn, true)
        view.setBigUint64(at.currentMitigations, 0x1fn, true)
      }),
    )
    expect(five).toMatchObject({ report: { launchMitigations: 0x0bn, currentMitigations: 0x1fn } })
  })

  it("keeps to the policy field's fixed bits", () => {
    for (const policy of [0n, 0x10000n, 0x30000n | (1n << 26n), 0x30000n | (1n << 63n)])
      expectRefused(
        verify(changed((view) => view.setBigUint64(at.policy, policy, true))),
        "REPORT_RESERVED",
        "report.policy",
      )
    for (let bit = 18n; bit < 26n; bit++)
      expect(
        verify(changed((view) => view.setBigUint64(at.policy, 0x20000n | (1n << bit), true))),
      ).not.toBeInstanceOf(SnpError)
  })

  it("asked for by the host, or from an impossible VMPL, is refused", () => {
    expectRefused(verify(changed((view) => view.setUint32(at.vmpl, 0xffff_ffff, true))), "REPORT_BY_HOST")
    for (const vmpl of [4, 0x100, 0x8000_0000])
      expectRefused(
        verify(changed((view) => view.setUint32(at.vmpl, vmpl, true))),
        "REPORT_VALUE",
        "report.vmpl",
      )
  })

  it("signed by nobody, by an unknown key or in an unknown way is refused", () => {
    const signer = (value: number) => verify(changed((view) => view.setUint32(at.signer, value, true)))
    expectRefused(signer(7 << 2), "REPORT_UNSIGNED")
    for (const key of [2, 3, 4, 5, 6]) expectRefused(signer(key << 2), "REPORT_VALUE", "report.signer")
    for (const bits of [1 << 5, 1 << 31]) expectRefused(signer(bits), "REPORT_RESERVED", "report.signer")
    for (const algorithm of [0, 2, 0x101])
      expectRefused(
        verify(changed((view) => view.setUint32(at.signatureAlgorithm, algorithm, true))),
        "REPORT_VALUE",
        "report.signatureAlgorithm",
      )
  })

  it("that says VLEK isn't carried by a VCEK's chain", () => {
    expectRefused(verify(changed((view) => view.setUint32(at.signer, 1 << 2, true))), "CERTIFICATE_ROLE")
  })

  it("whose TCB differs from the certificate's in any byte is refused", () => {
    for (let i = 0; i < 8; i++)
      expectRefused(
        verify(changed((view) => view.setUint8(at.reportedTcb + i, view.getUint8(at.reportedTcb + i) ^ 1))),
        "TCB_MISMATCH",
        "report.reportedTcb",
      )
  })

  it("whose other TCBs use reserved bytes is refused", () => {
    for (const [field, offset] of [
      ["report.currentTcb", at.currentTcb],
      ["report.committedTcb", at.committedTcb],
      ["report.launchTcb", at.launchTcb],
    ] as const)
      expectRefused(verify(changed((view) => view.setUint8(offset + 3, 1))), "REPORT_RESERVED", field)
  })

  it("of another CPU than the root's product is refused", () => {
    const cpu = (family: number, model: number) =>
      verify(
        changed((view) => {
          view.setUint8(at.cpuid, family)
          view.setUint8(at.cpuid + 1, model)
        }),
      )
    for (const [family, model] of [
      [0x19, 0x11],
      [0x19, 0xa0],
      [0x1a, 0x02],
      [0x17, 0x01],
      [0, 0],
      [0x19, 0x50],
    ] as const)
      expectRefused(cpu(family, model), "PRODUCT_MISMATCH", "report.cpuid")
    expect(cpu(0x19, 0x0f)).not.toBeInstanceOf(SnpError)
  })

  it("of another chip than the certificate's is refused; masked, the certificate says which chip it is", () => {
    expectRefused(
      verify(changed((view) => view.setUint8(at.chipId, view.getUint8(at.chipId) ^ 1))),
      "CHIP_ID_MISMATCH",
      "report.chipId",
    )
    const masked = verify(
      changed((view) => {
        for (let i = 0; i < 64; i++) view.setUint8(at.chipId + i, 0)
      }),
    )
    expect(masked).toMatchObject({ chip: { id: Buffer.from(chip.chipId).toString("hex"), masked: true } })
  })

  it("whose signature is zero, or fills more than 48 bytes, is refused", () => {
    const zero = Uint8Array.from(report).fill(0, at.signatureR, at.signatureS + 72)
    expectRefused(verify(zero), "REPORT_SIGNATURE")
    for (const i of [at.signatureR + 48, at.signatureR + 71, at.signatureS + 48, at.signatureS + 71]) {
      const long = Uint8Array.from(report)
      long[i] = 1
      expectRefused(verify(long), "REPORT_VALUE", "report.signature")
    }
  })
})

describe("a chain", () => {
  const day = 86_400_000
  const validity = { notBefore: new Date(now.getTime() - day), notAfter: new Date(now.getTime() + day) }
  const vcek = (): VcekContent => ({
    product: "Milan",
    publicKey: chip.key.publicKey,
    tcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 },
    hardwareId: chip.chipId,
    validity,
  })
  const leaf = (change: Partial<CertificateContent> = {}, own: Partial<VcekContent> = {}) => {
    const content = { ...vcek(), ...own }
    const certificate = {
      serial: 0,
      issuer: "SEV-Milan",
      subject: "SEV-VCEK",
      spki: p384Spki(content.publicKey),
      extensions: vcekExtensions(content),
      validity,
      ...change,
    }
    return verify(report, [signCertificate(certificate, root.askKey), ...root.certificates])
  }

  it("is believed with a leaf like the chip's own", () => {
    expect(leaf()).not.toBeInstanceOf(SnpError)
  })

  it.each([0, 1, 2, 4, 100])("of %i certificates is refused", (count) => {
    const certificates = Array.from(
      { length: count },
      (_, i) => chip.certificates[i % 3] ?? new Uint8Array(0),
    )
    expectRefused(verify(report, certificates), "CHAIN_LENGTH")
  })

  it("in another order is refused", () => {
    const [a, b, c] = chip.certificates as readonly [Uint8Array, Uint8Array, Uint8Array]
    expectRefused(verify(report, [b, a, c]), "CERTIFICATE_ISSUER")
    expectRefused(verify(report, [c, b, a]), "ROOT_UNKNOWN")
    expectRefused(verify(report, [a, c, c]), "CERTIFICATE_ROLE")
    expectRefused(verify(report, [c, c, c]), "CERTIFICATE_ROLE")
  })

  it("with a larger certificate, one with something behind it, or none at all is refused", () => {
    const [a, b, c] = chip.certificates as readonly [Uint8Array, Uint8Array, Uint8Array]
    expectRefused(verify(report, [new Uint8Array(8_193), b, c]), "CERTIFICATE_MALFORMED", "certificates.vcek")
    expectRefused(
      verify(report, [Uint8Array.from([...a, 0]), b, c]),
      "CERTIFICATE_MALFORMED",
      "certificates.vcek",
    )
    expectRefused(verify(report, [new Uint8Array(0), b, c]), "CERTIFICATE_MALFORMED", "certificates.vcek")
    expectRefused(verify(report, [a, b, new Uint8Array(0)]), "CERTIFICATE_MALFORMED", "certificates.ark")
  })

  it("whose dates don't hold at the time is refused, with another code than for a bad signature", () => {
    const before = new Date(now.getTime() - 1)
    const after = new Date(now.getTime() + 1_000)
    expectRefused(
      leaf({ validity: { ...validity, notAfter: before } }),
      "CERTIFICATE_EXPIRED",
      "certificates.vcek.notAfter",
    )
    expectRefused(
      leaf({ validity: { ...validity, notBefore: after } }),
      "CERTIFICATE_NOT_YET_VALID",
      "certificates.vcek.notBefore",
    )
  })

  it("whose leaf has another issuer, subject or role is refused", () => {
    expectRefused(leaf({ issuer: "SEV-Genoa" }), "CERTIFICATE_ISSUER")
    expectRefused(leaf({ subject: "SEV-VLEK" }), "CERTIFICATE_ROLE")
    expectRefused(leaf({ extensions: [...vcekExtensions(vcek()), ...authority()] }), "CERTIFICATE_ROLE")
  })

  it("whose leaf has another kind of key is refused", () => {
    const compressed = Uint8Array.from([2, ...chip.key.publicKey.subarray(1, 49)])
    expectRefused(leaf({ spki: p384Spki(compressed) }), "CERTIFICATE_ALGORITHM")
    const p256 = write(
      tags.sequence,
      write(tags.sequence, writeOid("1.2.840.10045.2.1"), writeOid("1.2.840.10045.3.1.7")),
      writeBitString(chip.key.publicKey),
    )
    const refused = leaf({ spki: p256 })
    expect(refused).toBeInstanceOf(SnpError)
  })

  it("whose leaf lacks any of AMD's extensions, or has one twice, is refused", () => {
    const all = vcekExtensions(vcek())
    for (const [i, one] of all.entries()) {
      expectRefused(leaf({ extensions: all.filter((_, at) => at !== i) }), "CERTIFICATE_EXTENSION")
      expectRefused(leaf({ extensions: [...all, one] }), "CERTIFICATE_EXTENSION")
    }
  })

  it("whose leaf has a critical extension, or one of AMD's, that isn't known is refused", () => {
    const with_ = (oid: string, critical: boolean) =>
      leaf({ extensions: [...vcekExtensions(vcek()), extension(oid, writeInteger(1), critical)] })
    expectRefused(with_("1.2.3.4", true), "CERTIFICATE_EXTENSION")
    expect(with_("1.2.3.4", false)).not.toBeInstanceOf(SnpError)
    for (const oid of [
      tcbExtensionOf.fmc,
      extensionOf.cspId,
      "1.3.6.1.4.1.3704.1.3.10",
      "1.3.6.1.4.1.3704.1.9",
    ])
      expectRefused(with_(oid, false), "CERTIFICATE_EXTENSION")
  })

  it("whose leaf's extensions say something else than the report is refused", () => {
    for (const part of ["bootloader", "tee", "snp", "microcode", "spl4", "spl5", "spl6", "spl7"] as const)
      expectRefused(leaf({}, { tcb: { ...vcek().tcb, [part]: 99 } }), "TCB_MISMATCH")
    expectRefused(leaf({}, { hardwareId: new Uint8Array(64).fill(1) }), "CHIP_ID_MISMATCH")
    expectRefused(leaf({}, { hardwareId: new Uint8Array(8) }), "CERTIFICATE_EXTENSION")
    expectRefused(leaf({ extensions: vcekExtensions({ ...vcek(), product: "Genoa" }) }), "PRODUCT_MISMATCH")
    expectRefused(
      leaf({ extensions: vcekExtensions({ ...vcek(), product: "Turin" }) }),
      "CERTIFICATE_EXTENSION",
    )
    expectRefused(leaf({}, { publicKey: makeChip(root).key.publicKey }), "REPORT_SIGNATURE")
  })

  it("whose intermediate isn't an authority, or has a short key, is refused", () => {
    const [ask] = root.certificates
    const key = rsaPss4096Sha384.generate()
    const spki = key.publicKey
    // A root of our own, so that what it signs is in our hands.
    const arkContent = {
      serial: 1,
      issuer: "ARK-Milan",
      subject: "ARK-Milan",
      spki,
      extensions: authority(),
      validity,
    }
    const own = {
      vendor: "amd",
      product: "Milan",
      key_digest: Buffer.from(crypto.sha256(spki)).toString("hex"),
      emulated: true,
    } as const
    const ark = signCertificate(arkContent, key.privateKey)
    const under = (change: Partial<CertificateContent>, top = ark) => {
      const content = {
        serial: 2,
        issuer: "ARK-Milan",
        subject: "SEV-Milan",
        spki,
        extensions: authority(0),
        validity,
      }
      const intermediate = signCertificate({ ...content, ...change }, key.privateKey)
      const certificate = signCertificate(
        {
          serial: 0,
          issuer: "SEV-Milan",
          subject: "SEV-VCEK",
          spki: p384Spki(chip.key.publicKey),
          extensions: vcekExtensions(vcek()),
          validity,
        },
        key.privateKey,
      )
      return verifyReport({ report, certificates: [certificate, intermediate, top] }, { roots: [own], now })
    }
    expect(under({})).not.toBeInstanceOf(SnpError)
    expectRefused(under({ extensions: [] }), "CERTIFICATE_ROLE", "certificates.ask.basicConstraints")
    expectRefused(
      under({ extensions: authority(0).slice(0, 1) }),
      "CERTIFICATE_ROLE",
      "certificates.ask.keyUsage",
    )
    expectRefused(under({ subject: "SEV-VLEK-Milan" }), "CERTIFICATE_ROLE", "certificates.ask.subject")
    expectRefused(
      under({ validity: { ...validity, notAfter: new Date(now.getTime() - 1) } }),
      "CERTIFICATE_EXPIRED",
      "certificates.ask.notAfter",
    )
    expectRefused(
      under(
        {},
        signCertificate({ ...arkContent, subject: "ARK-Genoa", issuer: "ARK-Genoa" }, key.privateKey),
      ),
      "CERTIFICATE_ROLE",
    )
    // The right key on top, but not signed with it.
    expectRefused(
      under({}, signCertificate(arkContent, root.askKey)),
      "CERTIFICATE_SIGNATURE",
      "certificates.ark.signature",
    )
    expect(ask.length).toBeGreaterThan(0)
  })
})
