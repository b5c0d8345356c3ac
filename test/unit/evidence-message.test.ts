/** The bounds of an Evidence message: how many pieces, of what, and how large all together. */
import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { Evidence, type Piece } from "../../schemas/messages/common.ts"
import { decode, encode } from "../../services/common/codec/index.ts"

const filled = (length: number) => new Uint8Array(length).fill(1)
const document = (length: number): Piece => ({ kind: "nitro", document: filled(length) })
const quote = (length: number, log = 0): Piece => ({
  kind: "tdx",
  quote: filled(length),
  certificates: [],
  event_log: filled(log),
})

const sent = (evidence: unknown): string => {
  try {
    const decoded = decode(Evidence, encode(Evidence, evidence as Evidence), { subject: "test" })
    return decoded.ok ? "sent" : decoded.error.code
  } catch (error) {
    return (error as Error).message
  }
}

describe("an Evidence message", () => {
  it("holds one to four pieces", () => {
    expect(sent({ pieces: [document(1)] })).toBe("sent")
    expect(sent({ pieces: Array.from({ length: 4 }, () => document(1)) })).toBe("sent")
    expect(sent({ pieces: [] })).not.toBe("sent")
    expect(sent({ pieces: Array.from({ length: 5 }, () => document(1)) })).not.toBe("sent")
  })

  it("holds 65,536 bytes of evidence and not one more, however they are spread", () => {
    const most = limits.evidenceBytes
    expect(sent({ pieces: [quote(1_000, most - 1_000)] })).toBe("sent")
    expect(sent({ pieces: [quote(1_001, most - 1_000)] })).not.toBe("sent")
    expect(sent({ pieces: [1, 2, 3, 4].map(() => document(most / 4)) })).toBe("sent")
    expect(sent({ pieces: [quote(1), ...[1, 2, 3].map(() => document(most / 4)), document(1)] })).not.toBe(
      "sent",
    )
    expect(sent({ pieces: [quote(1, 3), ...[1, 2, 3].map(() => quote(16_384, 5_461))] })).not.toBe("sent")
  })

  it("holds no piece of a kind that nobody knows, and none with more than it may have", () => {
    expect(sent({ pieces: [{ kind: "cca", token: filled(1) }] })).not.toBe("sent")
    expect(sent({ pieces: [{ ...document(1), nonce: filled(1) }] })).not.toBe("sent")
    expect(sent({ pieces: [document(16_385)] })).not.toBe("sent")
    const tpm = {
      kind: "tpm",
      attest: filled(1),
      signature: filled(1),
      ak: filled(1),
      certificates: [],
      pcrs: [{ bank: "sha256", index: 0, value: filled(32) }],
    }
    const pcrOf = (change: object) => ({ pieces: [{ ...tpm, pcrs: [{ ...tpm.pcrs[0], ...change }] }] })
    expect(sent({ pieces: [tpm] })).toBe("sent")
    expect(sent(pcrOf({ index: 24 }))).not.toBe("sent")
    expect(sent(pcrOf({ bank: "sha1" }))).not.toBe("sent")
    expect(sent(pcrOf({ value: filled(65) }))).not.toBe("sent")
    expect(sent({ pieces: [{ ...tpm, certificates: [1, 2, 3, 4, 5, 6].map(() => filled(1)) }] })).not.toBe(
      "sent",
    )
  })
})
