/** For the tests of revocation and collateral: AMD hierarchies whose every key is at hand. A report needs one of 4,096 bits. */
import { crypto } from "../../services/common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../services/common/crypto/native.ts"
import { writeIa5 } from "../../services/evidence/der.ts"
import {
  arkCertificate,
  askCertificate,
  authority,
  type CrlContent,
  extension,
  p384Spki,
  signCertificate,
  signCrl,
  vcekExtensions,
} from "../../services/evidence/emulated/certificates.ts"
import { launchGuest } from "../../services/evidence/emulated/guest.ts"
import { type EmulatedChip, plainTcb } from "../../services/evidence/emulated/platform.ts"
import type { HardwareRoot } from "../../services/evidence/index.ts"
import { keyDigest } from "../../services/evidence/snp/certificate.ts"
import { extensionOf } from "../../services/evidence/snp/endorsement.ts"
import { encodeTcb, products, type SnpProduct } from "../../services/evidence/snp/product.ts"
import { at } from "../../services/evidence/snp/report.ts"
import { measurement, now, reportData, resigned } from "./evidence-support.ts"

export const days = (count: number): Date => new Date(now.getTime() + count * 86_400_000)
export const serials = { ark: 0x010000, ask: 0x010001, asvk: 0x010101 } as const

/** A root, an ASK and an ASVK, and one chip with a VCEK and a VLEK. Takes seconds: three keys of 4,096 bits. */
export class SnpHierarchy {
  readonly product: SnpProduct
  readonly keys = {
    ark: rsaPss4096Sha384.generate(),
    ask: rsaPss4096Sha384.generate(),
    asvk: rsaPss4096Sha384.generate(),
  }
  readonly chip = crypto.ecdsaP384.generate()
  readonly hardwareId: Uint8Array
  readonly #validity = { notBefore: days(-30), notAfter: days(3_650) }

  constructor(product: SnpProduct = "Milan") {
    this.product = product
    this.hardwareId = crypto.randomBytes(products[product].hardwareIdBytes)
  }

  get root(): HardwareRoot {
    return {
      vendor: "amd",
      product: this.product,
      key_digest: keyDigest(this.keys.ark.publicKey),
      emulated: true,
    }
  }

  ark(): Uint8Array {
    const { publicKey, privateKey } = this.keys.ark
    return arkCertificate(this.product, publicKey, privateKey, this.#validity)
  }

  ask(): Uint8Array {
    return askCertificate(this.product, this.keys.ask.publicKey, this.keys.ark.privateKey, this.#validity)
  }

  asvk(): Uint8Array {
    return signCertificate(
      {
        serial: serials.asvk,
        issuer: `ARK-${this.product}`,
        subject: `SEV-VLEK-${this.product}`,
        spki: this.keys.asvk.publicKey,
        extensions: authority(0),
        validity: this.#validity,
      },
      this.keys.ark.privateKey,
    )
  }

  #leaf(kind: "VCEK" | "VLEK"): Uint8Array {
    const { publicKey } = this.chip
    const { product, hardwareId } = this
    const all = vcekExtensions({ product, publicKey, tcb: plainTcb, hardwareId, validity: this.#validity })
    const issuer = kind === "VCEK" ? "ask" : "asvk"
    return signCertificate(
      {
        serial: 0,
        issuer: kind === "VCEK" ? `SEV-${product}` : `SEV-VLEK-${product}`,
        subject: `SEV-${kind}`,
        spki: p384Spki(publicKey),
        extensions:
          kind === "VCEK"
            ? all
            : [...all.slice(0, -1), extension(extensionOf.cspId, writeIa5("EMULATED cloud"))],
        validity: this.#validity,
      },
      this.keys[issuer].privateKey,
    )
  }

  /** Leaf first. */
  chain(kind: "VCEK" | "VLEK" = "VCEK"): Uint8Array[] {
    return [this.#leaf(kind), kind === "VCEK" ? this.ask() : this.asvk(), this.ark()]
  }

  crl(change: Partial<CrlContent> = {}, signer: "ark" | "ask" = "ark"): Uint8Array {
    const content = { issuer: `ARK-${this.product}`, thisUpdate: days(-1), nextUpdate: days(364), ...change }
    return signCrl(content, this.keys[signer].privateKey)
  }

  report(kind: "VCEK" | "VLEK" = "VCEK"): Uint8Array {
    const { product } = this
    const chipId = new Uint8Array(64)
    chipId.set(this.hardwareId)
    const chip: EmulatedChip = {
      product,
      chipId,
      tcb: encodeTcb(product, plainTcb),
      key: this.chip,
      certificates: this.chain(),
    }
    const report = launchGuest(chip, { measurement }).report(reportData)
    return kind === "VCEK"
      ? report
      : resigned(chip, report, (view) => view.setUint32(at.signer, 1 << 2, true))
  }
}
