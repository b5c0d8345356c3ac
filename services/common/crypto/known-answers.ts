/**
 * What the primitives must answer. From the standards where they have small examples; the two long ones were computed by us
 * and agreed on by two implementations: ML-KEM by OpenSSL and @noble, RSA-PSS by OpenSSL and plain integer arithmetic.
 */
const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"))
const base64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"))
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)

/** FIPS 180-4 and FIPS 202, of "abc". */
export const hashes = {
  data: ascii("abc"),
  sha256: hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
  sha384: hex(
    "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
  ),
  sha512: hex(
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" +
      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
  ),
  sha3_256: hex("3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
  shake256: hex("483366601360a8771c6863080cc4114d8db44530f8f1e1ee4f94ea37e78b5739"),
}

/** RFC 4231, 4.3. */
export const hmac = {
  key: ascii("Jefe"),
  data: ascii("what do ya want for nothing?"),
  tag: hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
}

/** RFC 5869, A.1. */
export const hkdf = {
  ikm: hex("0b".repeat(22)),
  salt: hex("000102030405060708090a0b0c"),
  info: hex("f0f1f2f3f4f5f6f7f8f9"),
  prk: hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"),
  okm: hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
}

/** RFC 7748, 6.1. */
export const x25519 = {
  secret: hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
  publicKey: hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
  peer: hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
  shared: hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"),
}

/** RFC 8032, 7.1, test 3. */
export const ed25519 = {
  secret: hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
  publicKey: hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"),
  message: hex("af82"),
  signature: hex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
      "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  ),
}

/** RFC 6979, A.2.6, with SHA-384. */
export const p384 = {
  secret: hex(
    "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
  ),
  publicKey: hex(
    "04ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13" +
      "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720",
  ),
  message: ascii("sample"),
  signature: hex(
    "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46" +
      "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
  ),
}

/** RFC 6979, A.2.5, with SHA-256. */
export const p256 = {
  publicKey: hex(
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6" +
      "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
  ),
  message: ascii("sample"),
  signature: hex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" +
      "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
  ),
}

/** RFC 8439, 2.8.2. */
export const aead = {
  key: hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
  nonce: hex("070000004041424344454647"),
  aad: hex("50515253c0c1c2c3c4c5c6c7"),
  plaintext: ascii(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  ),
  sealed: hex(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
      "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
      "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
  ),
}

/** FIPS 203: d || z are the bytes 0 to 63, the ciphertext's randomness is 64 to 95. `rejected`: with its first bit turned over. */
export const mlkem768 = {
  seed: Uint8Array.from({ length: 64 }, (_, i) => i),
  publicKeySha256: hex("0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9"),
  shared: hex("9cddd089ffe70e3996e76f7c8d06746df34d07e8657bc0fcf2bb0e1c3084aea1"),
  rejected: hex("dcfc80c6db46ff7028e3a4398651c063ae7a42c107a6dc8cb07141861698ab92"),
  ciphertext: base64(
    "aVpg2cefCDQ+2f9YAlggY8LKOmSOVD2SSv+7Oe9N5lZZHw12ieZia+fqf+2vE04sJ8Z5fHOl7a8WgI8UHIr88xYU6KtmU3lXPk0KIDfL" +
      "93YEgWe6U1dgAaJZZALPJLXUU2K8iTzq7zWZ92sQgS5iYALmbbXFsPK5pwgOMtto3MjQTCT4RhpYu35H7+Zw10CtivmCADOEXvX4gPJv" +
      "DgCtsqvvh29ScEd+u7At5nh85yyoeF+xgfRsP/euN4fCXGjMzu+zVRh1udd8TUObYFDrOCqs+edEIn6MRuCppVg46nA09bS8th8QI6gB" +
      "hueV9LPYrpOYiZQiT6LYPiFxFnDaAeKz4nL4FhbAvIjMRvZB0W4NDAkkz0pKXBqRKMIm1JGKo5vvlBmd//ozh27wv6DZVg0l9boIBo1S" +
      "cfMtL52IvPU8fc+BGo1e/mF/XgVwDTR408t5MlKNG86yQBmKTPh1LK6j04fwB1mhNWt6W/GDjSbDVz6S5p8PV8BujCVFnrg+Es3XX1Qa" +
      "gc5xDq/OKYR4PzDjezJ/+TtyKXxs2MeMGFrVOGSVIGnX1sO8Yzrl4aWSWFXfC35xS73iRfaIIuCVDCPJbWERdTpu0MRszkN/U7a7cIwa" +
      "PiWXlzMZjZh54yN+dpRx+SLlefN8/WQdKb3P26qB7a4JrrBGNm4DdtBCgtF3eKjVR3Toyb48gisekM2IlavB24lRt2h/Y/7lDsQ/ryNz" +
      "CxUYnnyYKyLYlqly2jwu5Sm7X+Y2MMnC3fudHkJjo9Sa8oMgU9l++ivReC8l17hk1vs3CL+51LxsLMZFjU8UWZlds4fotQOCWkSWxzUl" +
      "KqYwobyqeiZ0cnOW3K9nAwtTRzlRZR3CbCJHa/0R0zIGrw/wNe0DXjRxbJBejd8EOkza4UUjjY9hLby3XoeWU7ueJlfatYuUT/NPl3/h" +
      "XOkH9oFKX5Izh3Tm8qtSV9JJF97N0VjG1FlBifQqm3+pFZqK9qqCW6kEZU4IyJSQEpj/snI53eqCg91FuHYDbArs8DWDukRFKXV0RMhX" +
      "//bk+O1I+KGArepUl5pnjxbcasjtzI5y7QjpYILw/0Ug3GNdSoRqMCb9hqSLEpfgzfwGAIeT54O94cP8anGHHmax/rVgSVgXqrvcWfAU" +
      "nz52rdm1vWzjRzTedZPtYH77hMbnMpYMdEyQipy4lHN1pVtV+i8M1nQrdcEPZVItOES+2bBb1EG7vqF8+6va75hHoO3ZyDKadi405Tlg" +
      "FNiLTTRPJQqt3v2Re7ISDRFpx5ywn1m60hhQdSwQmf/5i3G82qt29wYzI+ePqlIc0kP3Tdx/d3WqeZYGIuE1gKaDHmm7fyMh0UHTXaiD" +
      "F3GQeNTbMZ8whZTCaDZQP2I2LEAAUCKTfBKYqSjAQIeWYTSae1Ni0KdfKJO5eiYA1TNyOacKa2SkV+bf1cdNRi5+eQu57zzuFGE=",
  ),
}

/** RFC 8017, 8.1: 4,096 bits, SHA-384, 48 bytes of salt; the key (SubjectPublicKeyInfo) was made for this alone. */
export const rsaPss = {
  message: ascii("sample"),
  publicKey: base64(
    "MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEAxet9jcA6i2o5RcoQ+8i9QFnrWVAO72SbR6mCfRztTs+fivRJeQmGfh0prj3a" +
      "pr47kpUm8fjPhFHWhuTSLGkgr4N4ra586Qp9N48JXayFuXFJDHDEYaVi4lcLtJBXK++zezdR8KURt/LZa05nskqGpPTiTRZANtYOtOAu" +
      "sKoDyiDvywktAR1tSoPGrptMZk2g5ZNUFz8/NFxVpvfFlk4RQM6qf5DvdlbI2sw5exEh7vtFF9mTGyEv/cr2YhDGChGhaLm8F53SyM7I" +
      "nTCFYhYq2XJtLE+YMvbJR4e7TL5zDkgaF2LsmhRtWdc+Yq08FBPm0/yAV4yUnByZ1mj/EQYmWii506/lxceS3m48m8R/v/SiE5oSngvK" +
      "PCF11bXCbQQi0jSS8lL5AJ7ArPT8EYk1AoFgV1nfzLSC+QpyUKHs+zYx3T+UyYdxivdgWXTOZvBI8rrKAMAwgrEbto8GXO+Akfs5z/Sh" +
      "yEzf81vnDUBTqiItNCO0Y0LblxIb9wFk0mIqaS9FB9VC2oCfWSBUnpHDGK72HL6vtKn5r3Mikxhi1adWQjvDqgVFT2y3nIDs+/5ahDc9" +
      "l57Ou7pQX/YCfftJD3iYt09QmVbWZ4/OS/KoXV2ox+NZFq2aa4bLDwIDaVMTpouHuT4VZhiDHqYOZndxSCgg7BzbnD/g42Ht3av8598C" +
      "AwEAAQ==",
  ),
  signature: base64(
    "HlRH0j1Gx0FF//0UiNFr2F97WJljRABvhasE2Nxc8hmg1ZAKntj64Vgq+oj1LMMPi/uSzo/syNveRWoZ392UhbKy7Fgne3dtiXA6nKqm" +
      "zu8Osgz9KBi/3N1uMffXBn+tzzPxq1SiF3HRzhoILaPiv+k3FKOOCZiqGt8gQoKz7BD1SF1KMzPd8zLTWhY5CggajYW/Av0ER8ATr9Ry" +
      "dkLKhgKBANGRAM6sEavi64z0yRkYn0m4L2maWSnTjTYG5IJ/sSLn0VdVwUEpjZHQqEVi65cohtcVkRKbz0PVR9l9wYKOVH3giBb0Jj1J" +
      "kcLg9X+efiTqkUQxripvlEbUPlD6pqfI++npm1TaC31tjrASO++VEskPlDm4IrfRrIOcwc2fIc+MZrsDm9irLVr9qH7VYVWNA/7dp4rU" +
      "dd4Wqb7Cefkelv/Pzb+YlVjvzEEvQdA7w2jdLORPJXJT0QkgTAbrUZXzAXnftvU2piQE26D6j7+GzrKAsWzdU7Iv4qHDgeo/fIU0NL2P" +
      "17nibhjFjgOt7jzMvwGZAnl8TJdmp+ZUIVJuaxDYpZ1PZZ6wq2JedbaGp6UTR+E532XNaxC/LGcaSnxfHqIoum60inEx3Gu+wMIuoM2T" +
      "Sdx/nQiAgPprN+c6msPK+Gf88J/ZcOWKw8EJkSLWwdIxfiAy0U+f1H8Eqd0=",
  ),
}
