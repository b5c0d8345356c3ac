/**
 * The combinations of algorithms that exist. A workflow names which one an edge uses, a node's Evidence which ones it
 * offers; nothing is negotiated on the bus. A hybrid suite is a further row, `xwing-chacha20-poly1305`: KEM 0x647a
 * (X-Wing), whose public key is the node's kemKey before its dhKey, with a `Kem` of that id beside the one in `hpke.ts`.
 */
export const suites = {
  "chacha20-poly1305": {
    /** What seals a release: RFC 9180 identifiers. */
    seal: { kem: 0x0020, kdf: 0x0001, aead: 0x0003 },
    /** Bytes of the node's kemKey; 0 where the KEM needs only its X25519 key. */
    kemKeyBytes: 0,
    /** What encrypts packets: ESP with ChaCha20-Poly1305 (RFC 7634). */
    traffic: "esp-chacha20-poly1305",
    keyBytes: 32,
    saltBytes: 4,
  },
} as const

export type SuiteId = keyof typeof suites

export const defaultSuite: SuiteId = "chacha20-poly1305"

export const isSuiteId = (text: string): text is SuiteId => Object.hasOwn(suites, text)
