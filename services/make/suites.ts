/**
 * The combinations of algorithms that exist. A workflow names the one that all its edges use, a node's Evidence which ones
 * it offers; nothing is negotiated on the bus.
 */
export const suites = {
  "xwing-chacha20-poly1305": {
    /** What seals a release: RFC 9180 identifiers. X-Wing's public key is the node's kemKey before its dhKey. */
    seal: { kem: 0x647a, kdf: 0x0001, aead: 0x0003 },
    /** Bytes of the node's kemKey; 0 where the KEM needs only its X25519 key. */
    kemKeyBytes: 1_184,
    /** What encrypts packets: ESP with ChaCha20-Poly1305 (RFC 7634). */
    traffic: "esp-chacha20-poly1305",
    keyBytes: 32,
    saltBytes: 4,
  },
  /** Without a post-quantum half: a recording of it can be read by whoever has a quantum computer one day. */
  "chacha20-poly1305": {
    seal: { kem: 0x0020, kdf: 0x0001, aead: 0x0003 },
    kemKeyBytes: 0,
    traffic: "esp-chacha20-poly1305",
    keyBytes: 32,
    saltBytes: 4,
  },
} as const

export type SuiteId = keyof typeof suites

/** What a new workflow should name. A document without a suite is refused, never completed with this one. */
export const defaultSuite: SuiteId = "xwing-chacha20-poly1305"

export const isSuiteId = (text: string): text is SuiteId => Object.hasOwn(suites, text)

/** What a node offers, best first. */
export const offeredSuites: ReadonlyArray<SuiteId> = Object.keys(suites).filter(isSuiteId)
