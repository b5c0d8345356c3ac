import { describe, expect, it } from "vitest"
import type { PcrValue, Piece, SnpPiece, TdxPiece, TpmPiece } from "../../schemas/messages/common.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import { labels } from "../../services/make/labels.ts"
import {
  type ControlBinding,
  controlDigest,
  controlReportData,
  encodeFields,
  encodeList,
  type NodeBinding,
  nodeReportData,
  operatorKeysDigest,
  rootsDigest,
  withFields,
} from "../../services/make/transcript.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

const control: ControlBinding = {
  role: "control-plane",
  domain: "hospital",
  operatorKeysDigest: filled(32, 1),
  rootsDigest: filled(32, 2),
  workflowDigest: filled(32, 3),
  verifierKey: filled(32, 4),
  verifiers: [filled(32, 14), filled(32, 15)],
  releaserKey: filled(32, 5),
  term: 7n,
  merkleRoot: filled(32, 6),
  leafCount: 9,
}

const node: NodeBinding = {
  role: "node",
  suites: ["chacha20-poly1305"],
  domain: "hospital",
  workflowDigest: filled(32, 1),
  controlDigest: filled(32, 2),
  nonce: filled(32, 3),
  challenge: filled(32, 4),
  nodeId: "source-1",
  session: filled(16, 5),
  signingKey: filled(32, 6),
  dhKey: filled(32, 7),
  kemKey: new Uint8Array(0),
  dataplane: filled(48, 8),
  bootId: filled(16, 9),
}

/** Another value of the same shape. */
const changed = (value: unknown): unknown => {
  if (value instanceof Uint8Array) {
    if (value.length === 0) return filled(1_184, 1)
    const copy = Uint8Array.from(value)
    copy[copy.length - 1] = (copy[copy.length - 1] ?? 0) ^ 1
    return copy
  }
  if (typeof value === "string") return `${value}x`
  if (typeof value === "bigint") return value + 1n
  if (typeof value === "number") return value + 1
  const list = value as ReadonlyArray<string | Uint8Array>
  return [...list, list[0] instanceof Uint8Array ? filled(32, 99) : "other"]
}

describe("encodeFields", () => {
  it("puts a length before the label and each field", () => {
    expect(hex(encodeFields(labels.list, "ab", Uint8Array.of(1, 2, 3), 5, 6n))).toBe(
      `00000011${Buffer.from("vouchsafe/v1/list").toString("hex")}` +
        "000000026162" +
        "00000003010203" +
        "0000000400000005" +
        "000000080000000000000006",
    )
  })

  it("tells where one field ends and the next begins", () => {
    const seen = new Set<string>()
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6)
    for (let cut = 0; cut <= bytes.length; cut++)
      seen.add(hex(encodeFields(labels.list, bytes.subarray(0, cut), bytes.subarray(cut))))
    seen.add(hex(encodeFields(labels.list, bytes)))
    expect(seen.size).toBe(8)
  })

  it("keeps a list apart from its items in a row", () => {
    expect(hex(encodeFields(labels.challenge, encodeList(["a", "b"])))).not.toBe(
      hex(encodeFields(labels.challenge, "a", "b")),
    )
  })

  it("takes a list as the field that it is, also in another, short or long", () => {
    const texts = ["a", "ä\u{1f511}", ""]
    const longs = [...texts, filled(5_000, 1)]
    for (const items of [[], texts, longs]) {
      const found = encodeFields(labels.challenge, 1, items, [items, 2n], "end")
      const wanted = [1, encodeList(items), encodeList([encodeList(items), 2n]), "end"]
      expect(hex(found)).toBe(hex(encodeFields(labels.challenge, ...wanted)))
    }
  })

  it("lends what nothing else is written over, and what is gone afterwards", () => {
    const kept = withFields(labels.challenge, ["secret"], (lent) => {
      expect(hex(encodeFields(labels.list, "another"))).not.toBe(hex(lent))
      expect(hex(lent)).toBe(hex(encodeFields(labels.challenge, "secret")))
      return lent
    })
    expect(kept.every((byte) => byte === 0)).toBe(true)
    expect(() => withFields(labels.challenge, [], () => expect.fail("on purpose"))).toThrow("on purpose")
    // The same place again: nothing was left lent.
    const place = () => withFields(labels.challenge, ["again"], ({ buffer }) => buffer)
    expect(place()).toBe(kept.buffer)
  })

  it("refuses what it couldn't encode injectively", () => {
    for (const field of ["\ud800", -1, 1.5, 2 ** 32, -1n, 2n ** 64n, Number.NaN])
      expect(() => encodeFields(labels.list, field)).toThrow(MakeError)
  })
})

describe("labels", () => {
  it("have one use each, and none is the beginning of another with its length before it", () => {
    const all = Object.values(labels)
    expect(new Set(all).size).toBe(all.length)
    for (const label of all) expect(label).toMatch(/^vouchsafe\/v1\/[a-z-]+$/)
  })

  it("give different hashes over equal fields", () => {
    const all = Object.values(labels).map((label) => hex(crypto.sha256(encodeFields(label, "same"))))
    expect(new Set(all).size).toBe(all.length)
  })
})

describe("report data", () => {
  it("has 64 bytes and changes with every field of the control plane's binding", () => {
    const base = hex(controlReportData(crypto, control))
    expect(base).toHaveLength(128)
    for (const key of Object.keys(control) as Array<keyof ControlBinding>) {
      const other = { ...control, [key]: changed(control[key]) } as ControlBinding
      expect(hex(controlReportData(crypto, other)), key).not.toBe(base)
    }
  })

  it("has 64 bytes and changes with every field of a node's binding", () => {
    const base = hex(nodeReportData(crypto, node))
    expect(base).toHaveLength(128)
    for (const key of Object.keys(node) as Array<keyof NodeBinding>) {
      const other = { ...node, [key]: changed(node[key]) } as NodeBinding
      expect(hex(nodeReportData(crypto, other)), key).not.toBe(base)
    }
  })

  it("changes when two fields of one length swap their values", () => {
    const nodeBase = hex(nodeReportData(crypto, node))
    expect(hex(nodeReportData(crypto, { ...node, nonce: node.challenge, challenge: node.nonce }))).not.toBe(
      nodeBase,
    )
    expect(hex(nodeReportData(crypto, { ...node, domain: node.nodeId, nodeId: node.domain }))).not.toBe(
      nodeBase,
    )
    const swapped = { ...control, verifierKey: control.releaserKey, releaserKey: control.verifierKey }
    expect(hex(controlReportData(crypto, swapped))).not.toBe(hex(controlReportData(crypto, control)))
  })

  it("changes when bytes move between neighbouring texts", () => {
    const a = nodeReportData(crypto, { ...node, suites: ["ab", "c"] })
    const b = nodeReportData(crypto, { ...node, suites: ["a", "bc"] })
    const c = nodeReportData(crypto, { ...node, suites: ["abc"], domain: node.domain })
    expect(new Set([a, b, c].map(hex)).size).toBe(3)
  })

  it("refuses every binary field of another length", () => {
    for (const key of Object.keys(control) as Array<keyof ControlBinding>) {
      if (!(control[key] instanceof Uint8Array)) continue
      for (const length of [0, 31, 33])
        expect(() => controlReportData(crypto, { ...control, [key]: filled(length, 1) }), key).toThrow(
          MakeError,
        )
    }
    for (const key of Object.keys(node) as Array<keyof NodeBinding>) {
      const value = node[key]
      if (!(value instanceof Uint8Array)) continue
      for (const length of [value.length + 1, value.length + 32])
        expect(() => nodeReportData(crypto, { ...node, [key]: filled(length, 1) }), key).toThrow(MakeError)
    }
  })
})

describe("digests of sets", () => {
  it("count neither order nor repetition", () => {
    const [a, b] = [filled(32, 1), filled(32, 2)]
    expect(hex(operatorKeysDigest(crypto, [a, b, a], 1))).toBe(hex(operatorKeysDigest(crypto, [b, a], 1)))
    expect(hex(operatorKeysDigest(crypto, [a], 1))).not.toBe(hex(operatorKeysDigest(crypto, [a, b], 1)))
    expect(hex(operatorKeysDigest(crypto, [a, b], 1))).not.toBe(hex(operatorKeysDigest(crypto, [a, b], 2)))
    expect(hex(operatorKeysDigest(crypto, [a, b], 1))).not.toBe(hex(rootsDigest(crypto, [a, b])))
    expect(() => operatorKeysDigest(crypto, [filled(31, 1)], 1)).toThrow(MakeError)
  })
})

describe("controlDigest", () => {
  const [report, leaf, root] = [filled(1_184, 1), filled(40, 2), filled(41, 3)]
  const snp: SnpPiece = { kind: "snp", report, certificates: [leaf, root] }
  const of = (...pieces: readonly Piece[]) => controlDigest(crypto, control, { pieces })

  it("covers binding, report, and each certificate in its place", () => {
    const all = [
      of(snp),
      of({ ...snp, certificates: [root, leaf] }),
      of({ ...snp, certificates: [leaf] }),
      of({ ...snp, certificates: [] }),
      of({ ...snp, report: filled(1_184, 2) }),
      controlDigest(crypto, { ...control, term: 8n }, { pieces: [snp] }),
    ]
    expect(new Set(all.map(hex)).size).toBe(all.length)
  })

  it("covers every field of every kind of piece, and how many pieces there are in which order", () => {
    const tdx: TdxPiece = { kind: "tdx", quote: filled(60, 4), certificates: [leaf], event_log: filled(9, 5) }
    const pcr: PcrValue = { bank: "sha256", index: 7, value: filled(32, 6) }
    const tpm: TpmPiece = {
      kind: "tpm",
      attest: filled(70, 7),
      signature: filled(71, 8),
      ak: filled(72, 9),
      certificates: [root],
      hcl_report: filled(73, 10),
      pcrs: [pcr],
      boot_log: filled(74, 11),
      ima_log: filled(75, 12),
    }
    const { event_log: _e, ...withoutLog } = tdx
    const { hcl_report: _h, ...withoutHcl } = tpm
    const { boot_log, ...withoutBootLog } = tpm
    const { ima_log, ...withoutImaLog } = tpm
    const all = [
      of(snp, tpm),
      of(tpm, snp),
      of(snp, snp),
      of(tdx),
      of({ ...tdx, quote: filled(61, 4) }),
      of({ ...tdx, certificates: [] }),
      of({ ...tdx, event_log: new Uint8Array(0) }),
      of(withoutLog),
      of(tpm),
      of({ ...tpm, attest: leaf }),
      of({ ...tpm, signature: leaf }),
      of({ ...tpm, ak: leaf }),
      of({ ...tpm, certificates: [] }),
      of({ ...tpm, hcl_report: leaf }),
      of(withoutHcl),
      of({ ...tpm, pcrs: [{ ...pcr, bank: "sha384" }] }),
      of({ ...tpm, pcrs: [{ ...pcr, index: 8 }] }),
      of({ ...tpm, pcrs: [{ ...pcr, value: filled(32, 7) }] }),
      of(withoutBootLog),
      of(withoutImaLog),
      // What one field loses, another must not make up for.
      of({ ...withoutBootLog, ima_log: boot_log ?? leaf }),
      of({ ...withoutImaLog, boot_log: ima_log ?? leaf }),
      of({ kind: "nitro", document: leaf }),
      of({ kind: "nitro", document: root }),
    ]
    expect(new Set(all.map(hex)).size).toBe(all.length)
  })
})
