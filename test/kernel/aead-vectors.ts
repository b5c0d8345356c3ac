/** Published vectors of ChaCha20-Poly1305, as ESP uses it and as the RFC defines it. */
import { concat, hex } from "./packets.ts"

export interface Vector {
  readonly name: string
  readonly key: Uint8Array
  readonly nonce: Uint8Array
  readonly associated: Uint8Array
  readonly text: Uint8Array
  readonly sealed: Uint8Array
  readonly tag: Uint8Array
}

const range = (first: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => first + i)

const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "utf8"))

export const vectors: ReadonlyArray<Vector> = [
  {
    name: "RFC 8439 section 2.8.2",
    key: range(0x80, 32),
    nonce: hex("07000000 4041424344454647"),
    associated: hex("50515253c0c1c2c3c4c5c6c7"),
    text: ascii(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    ),
    sealed: hex(`
      d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
      1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
      3ff4def08e4b7a9de576d26586cec64b 6116`),
    tag: hex("1ae10b594f09e26a7e902ecbd0600691"),
  },
  {
    name: "RFC 8439 appendix A.5",
    key: hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"),
    nonce: hex("000000000102030405060708"),
    associated: hex("f33388860000000000004e91"),
    text: ascii(
      "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or " +
        "obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material " +
        "or to cite them other than as /\u201cwork in progress./\u201d",
    ),
    sealed: hex(`
      64a0861575861af460f062c79be643bd 5e805cfd345cf389f108670ac76c8cb2 4c6cfc18755d43eea09ee94e382d26b0
      bdb7b73c321b0100d4f03b7f355894cf 332f830e710b97ce98c8a84abd0b9481 14ad176e008d33bd60f982b1ff37c855
      9797a06ef4f0ef61c186324e2b350638 3606907b6a7c02b0f9f6157b53c867e4 b9166c767b804d46a59b5216cde7a4e9
      9040c5a40433225ee282a1b0a06c523e af4534d7f83fa1155b0047718cbc546a 0d072b04b3564eea1b422273f548271a
      0bb2316053fa76991955ebd63159434e cebb4e466dae5a1073a6727627097a10 49e617d91d361094fa68f0ff77987130
      305beaba2eda04df997b714d6c6f2c29 a6ad5cb4022b02709b`),
    tag: hex("eead9d67890cbb22392336fea1851f38"),
  },
  {
    name: "RFC 7634 appendix A: an ESP packet",
    key: range(0x80, 32),
    nonce: concat(hex("a0a1a2a3"), range(0x10, 8)),
    associated: hex("01020304 00000005"),
    text: concat(
      hex("45000054a6f200004001e778c6336405c0000205 08005b7a3a080000553bec1000073627"),
      range(8, 0x30),
      hex("01020204"),
    ),
    sealed: hex(`
      24039428b97f417e3c13753a4f05087b 67c352e6a7fab1b982d466ef407ae5c6 14ee8099d52844eb61aa95dfab4c02f7
      2aa71e7c4c4f64c9befe2facc638e8f3 cbec163fac469b502773f6fb94e664da 9165b82829f641e0`),
    tag: hex("76aaa8266b7fb0f7b11b369907e1ad43"),
  },
]
