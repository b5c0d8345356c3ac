import { generateKeyPairSync } from "node:crypto"
import { describe, expect, it } from "vitest"
import { native as crypto } from "../../services/common/crypto/index.ts"
import { akTemplate, ekTemplate } from "../../services/evidence/tpm/templates.ts"
import { MakeError } from "../../services/make/errors.ts"
import { askActivation } from "../../services/verifier/ask-activation.ts"

const sized = (bytes: Uint8Array) => Buffer.concat([Uint8Array.of(bytes.length >> 8, bytes.length), bytes])

/** A template with a key of this process in it, as a TPM would give it back. */
const ecKey = (template: Uint8Array, blank: number): Uint8Array => {
  const { x, y } = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "jwk" })
  const coordinates = [x, y].map((part) => sized(Buffer.from(part ?? "", "base64url")))
  return Uint8Array.from(Buffer.concat([template.subarray(0, template.length - blank), ...coordinates]))
}
const rsaKey = (template: Uint8Array, blank: number): Uint8Array => {
  const { n } = generateKeyPairSync("rsa", { modulusLength: 2_048 }).publicKey.export({ format: "jwk" })
  const modulus = sized(Buffer.from(n ?? "", "base64url"))
  return Uint8Array.from(Buffer.concat([template.subarray(0, template.length - blank), modulus]))
}
const ak = ecKey(akTemplate("ecdsa-p256"), 4)
const keys = {
  "ecc-p256": ecKey(ekTemplate("ecc-p256"), 68),
  "rsa-2048": rsaKey(ekTemplate("rsa-2048"), 258),
}

describe.each(Object.entries(keys))("a credential for the keys of a hello, %s", (_, ek) => {
  it("has a secret of its own each time, within the bounds of the challenge", () => {
    const [one, two] = [askActivation(crypto, { ek, ak }), askActivation(crypto, { ek, ak })]
    expect(one.activation.secret).toHaveLength(32)
    expect(one.activation.secret).not.toEqual(two.activation.secret)
    expect(one.activation.ek).toEqual(two.activation.ek)
    expect(one.credential.blob.length).toBeLessThanOrEqual(256)
    expect(one.credential.secret.length).toBeLessThanOrEqual(1_024)
  })

  it("is made or refused with a typed error, whichever byte of them is changed, or cut off", () => {
    let refused = 0
    const judge = (endorsement: { ek: Uint8Array; ak: Uint8Array }): void => {
      try {
        askActivation(crypto, endorsement)
      } catch (error) {
        expect(error).toBeInstanceOf(MakeError)
        expect(error).toMatchObject({ code: "MALFORMED" })
        refused++
      }
    }
    const changed = (bytes: Uint8Array, at: number, by: number): Uint8Array =>
      bytes.map((byte, i) => (i === at ? byte ^ by : byte))
    for (let at = 0; at < ek.length; at++) {
      for (const by of [0x01, 0xff]) judge({ ek: changed(ek, at, by), ak })
      judge({ ek: ek.slice(0, at), ak })
    }
    for (let at = 0; at < ak.length; at++) judge({ ek, ak: changed(ak, at, 0xff) })
    expect(refused).toBeGreaterThan(ek.length)
  })
})
