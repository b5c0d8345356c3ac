/** Published vectors, against each implementation of the port. */
import { describe, expect, it } from "vitest"
import {
  auto,
  type Crypto,
  CryptoError,
  chooseCrypto,
  native,
  noble,
} from "../../services/common/crypto/index.ts"
import { bytesOf, hexOf } from "./crypto-support.ts"

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

describe.each([noble, native, auto] as Crypto[])("$name", (crypto) => {
  it("hashes as FIPS 180-4 says", () => {
    expect(hexOf(crypto.sha256(text("abc")))).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    expect(hexOf(crypto.sha384(text("abc")))).toBe(
      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    )
    expect(hexOf(crypto.sha512(text("abc")))).toBe(
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    )
  })

  it("authenticates as RFC 4231 says", () => {
    expect(hexOf(crypto.hmacSha256(text("Jefe"), text("what do ya want for nothing?")))).toBe(
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    )
  })

  it.each([
    {
      name: "A.1",
      ikm: "0b".repeat(22),
      salt: "000102030405060708090a0b0c",
      info: "f0f1f2f3f4f5f6f7f8f9",
      prk: "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
      okm: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    {
      name: "A.3",
      ikm: "0b".repeat(22),
      salt: "",
      info: "",
      prk: "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
      okm: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    },
  ])("derives keys as RFC 5869 $name says", ({ ikm, salt, info, prk, okm }) => {
    expect(hexOf(crypto.hkdfExtractSha256(bytesOf(ikm), bytesOf(salt)))).toBe(prk)
    expect(hexOf(crypto.hkdfExpandSha256(bytesOf(prk), bytesOf(info), 42))).toBe(okm)
    expect(hexOf(crypto.hkdfSha256(bytesOf(ikm), bytesOf(salt), bytesOf(info), 42))).toBe(okm)
  })

  it("agrees on keys as RFC 7748, 6.1, says", () => {
    const alice = crypto.x25519.fromSecret(
      bytesOf("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
    )
    const bob = crypto.x25519.fromSecret(
      bytesOf("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
    )
    expect(hexOf(alice.publicKey)).toBe("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    expect(hexOf(bob.publicKey)).toBe("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    const shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    expect(hexOf(crypto.x25519.sharedSecret(alice, bob.publicKey))).toBe(shared)
    expect(hexOf(crypto.x25519.sharedSecret(bob, alice.publicKey))).toBe(shared)
  })

  it("multiplies as RFC 7748, 5.2, says, also where the top bit of u is set", () => {
    const scalar = crypto.x25519.fromSecret(
      bytesOf("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
    )
    const u = bytesOf("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")
    expect(hexOf(crypto.x25519.sharedSecret(scalar, u))).toBe(
      "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    )
  })

  it.each([
    {
      name: "test 1",
      secret: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
      message: "",
      signature:
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    },
    {
      name: "test 3",
      secret: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      key: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
      message: "af82",
      signature:
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    },
  ])("signs as RFC 8032, 7.1, $name, says", ({ secret, key, message, signature }) => {
    const pair = crypto.ed25519.fromSecret(bytesOf(secret))
    expect(hexOf(pair.publicKey)).toBe(key)
    expect(hexOf(crypto.ed25519.sign(bytesOf(message), pair))).toBe(signature)
    expect(crypto.ed25519.verify(bytesOf(signature), bytesOf(message), bytesOf(key))).toBe(true)
  })

  it.each([
    {
      message: "sample",
      signature:
        "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46" +
        "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
    },
    {
      message: "test",
      signature:
        "8203b63d3c853e8d77227fb377bcf7b7b772e97892a80f36ab775d509d7a5feb0542a7f0812998da8f1dd3ca3cf023db" +
        "ddd0760448d42d8a43af45af836fce4de8be06b485e9b61b827c2f13173923e06a739f040649a667bf3b828246baa5a5",
    },
  ])("verifies P-384 as RFC 6979, A.2.6, says: $message", ({ message, signature }) => {
    const pair = crypto.ecdsaP384.fromSecret(
      bytesOf(
        "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
      ),
    )
    const point =
      "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13" +
      "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720"
    expect(hexOf(pair.publicKey)).toBe(`04${point}`)
    expect(crypto.ecdsaP384.verify(bytesOf(signature), text(message), bytesOf(`04${point}`))).toBe(true)
    expect(crypto.ecdsaP384.verify(bytesOf(signature), text(message), bytesOf(point))).toBe(true)
    expect(crypto.ecdsaP384.verify(bytesOf(signature), text(`${message}.`), bytesOf(point))).toBe(false)
  })

  it("verifies P-256 as RFC 6979, A.2.5, says", () => {
    const point =
      "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6" +
      "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    const signature =
      "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" +
      "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    expect(crypto.ecdsaP256.verify(bytesOf(signature), text("sample"), bytesOf(point))).toBe(true)
    expect(crypto.ecdsaP256.verify(bytesOf(signature), text("simple"), bytesOf(point))).toBe(false)
  })

  it("seals as RFC 8439, 2.8.2, says", () => {
    const key = bytesOf("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")
    const nonce = bytesOf("070000004041424344454647")
    const aad = bytesOf("50515253c0c1c2c3c4c5c6c7")
    const plaintext = text(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    )
    const sealed =
      "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
      "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
      "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
    expect(hexOf(crypto.chacha20poly1305.seal(key, nonce, plaintext, aad))).toBe(sealed)
    expect(crypto.chacha20poly1305.open(key, nonce, bytesOf(sealed), aad)).toEqual(plaintext)
  })
})

describe("choosing", () => {
  it("takes the three names and nothing else", () => {
    expect(chooseCrypto(undefined).name).toBe("auto")
    expect(chooseCrypto("noble").name).toBe("noble")
    expect(chooseCrypto("native").name).toBe("native")
    expect(() => chooseCrypto("openssl")).toThrow(CryptoError)
  })
})
