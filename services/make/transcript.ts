/**
 * The one canonical encoding: a label and fields, each behind its length. Injective: two different (label, fields) never
 * encode to the same bytes, so a hash or signature over it speaks of exactly one thing.
 */
import type { Evidence, Piece } from "../../schemas/messages/common.ts"
import type { HardwareRoot } from "../../schemas/platforms.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { type Label, labels } from "./labels.ts"

/** Text is UTF-8, a number u32, a bigint u64; integers are big-endian. */
export type Field = Uint8Array | string | number | bigint

const utf8 = new TextEncoder()

/** @throws MakeError MALFORMED for text with lone surrogates (their encoding isn't injective) and integers out of range. */
const fieldBytes = (field: Field): Uint8Array => {
  if (typeof field === "string") {
    if (!field.isWellFormed()) throw new MakeError("MALFORMED", "text", "is not well-formed Unicode")
    return utf8.encode(field)
  }
  if (typeof field === "number") {
    if (!Number.isInteger(field) || field < 0 || field > 0xffff_ffff)
      throw new MakeError("MALFORMED", "number", "must be 0..2^32-1")
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setUint32(0, field)
    return bytes
  }
  if (typeof field === "bigint") {
    if (field < 0n || field > 0xffff_ffff_ffff_ffffn)
      throw new MakeError("MALFORMED", "number", "must be 0..2^64-1")
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, field)
    return bytes
  }
  return field
}

/** u32 length of the label, label, then for each field its u32 length and its bytes. */
export const encodeFields = (label: Label, ...fields: ReadonlyArray<Field>): Uint8Array => {
  const parts = [utf8.encode(label), ...fields.map(fieldBytes)]
  const out = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0))
  const view = new DataView(out.buffer)
  let at = 0
  for (const part of parts) {
    view.setUint32(at, part.length)
    out.set(part, at + 4)
    at += 4 + part.length
  }
  return out
}

/** Any number of values as one field of something else: the order counts. */
export const encodeList = (items: ReadonlyArray<Field>): Uint8Array => encodeFields(labels.list, ...items)

/** SHA-256 of the encoding, 32 bytes. */
export const digest = (crypto: Crypto, label: Label, ...fields: ReadonlyArray<Field>): Uint8Array =>
  crypto.sha256(encodeFields(label, ...fields))

/** Of the bytes of the workflow document that the operator signed. */
export const workflowDigest = (crypto: Crypto, document: Uint8Array): Uint8Array =>
  digest(crypto, labels.workflowDigest, document)

const compareBytes = (a: Uint8Array, b: Uint8Array): number => Buffer.compare(a, b)

/** Of a set: neither order nor repetition counts. */
const setDigest = (crypto: Crypto, label: Label, items: ReadonlyArray<Uint8Array>): Uint8Array => {
  const sorted = [...items].sort(compareBytes)
  const distinct = sorted.filter((item, i) => i === 0 || compareBytes(item, sorted[i - 1] ?? item) !== 0)
  return digest(crypto, label, ...distinct)
}

/** Of the operators' Ed25519 public keys (32 bytes each) that a guest obeys, and how many of them it takes. */
export const operatorKeysDigest = (
  crypto: Crypto,
  keys: ReadonlyArray<Uint8Array>,
  threshold: number,
): Uint8Array => {
  for (const key of keys) expectBytes("operatorKeys", key, 32)
  return digest(
    crypto,
    labels.operatorKeysDigest,
    threshold,
    setDigest(crypto, labels.operatorKeysDigest, keys),
  )
}

/** A hardware root of a workflow: vendor, what narrows it (AMD's product, the use of a TPM's key, or nothing), key, word. */
export const rootBytes = (root: HardwareRoot): Uint8Array => {
  const narrowed = root.vendor === "amd" ? root.product : root.vendor === "tpm" ? root.use : ""
  return encodeList([root.vendor, narrowed, root.key_digest, root.emulated ? 1 : 0])
}

/** Of the hardware roots that a control plane accepts, each as `rootBytes`. */
export const rootsDigest = (crypto: Crypto, roots: ReadonlyArray<Uint8Array>): Uint8Array =>
  setDigest(crypto, labels.rootsDigest, roots)

/** What the control plane's Evidence binds. Digests and keys have 32 bytes. */
export interface ControlBinding {
  readonly role: "control-plane"
  readonly domain: string
  readonly operatorKeysDigest: Uint8Array
  readonly rootsDigest: Uint8Array
  readonly workflowDigest: Uint8Array
  /** Ed25519. */
  readonly verifierKey: Uint8Array
  /** Of other guests, ascending, none twice. */
  readonly verifiers: ReadonlyArray<Uint8Array>
  readonly releaserKey: Uint8Array
  readonly term: bigint
  /** Over the hellos that this Evidence answers, and how many they are. */
  readonly merkleRoot: Uint8Array
  readonly leafCount: number
}

/** @returns 64 bytes for the report data of the control plane's Evidence. */
export const controlReportData = (crypto: Crypto, c: ControlBinding): Uint8Array => {
  expectBytes("operatorKeysDigest", c.operatorKeysDigest, 32)
  expectBytes("rootsDigest", c.rootsDigest, 32)
  expectBytes("workflowDigest", c.workflowDigest, 32)
  expectBytes("verifierKey", c.verifierKey, 32)
  expectBytes("releaserKey", c.releaserKey, 32)
  for (const key of c.verifiers) expectBytes("verifiers", key, 32)
  expectBytes("merkleRoot", c.merkleRoot, 32)
  return crypto.sha512(
    encodeFields(
      labels.controlReportData,
      c.role,
      c.domain,
      c.operatorKeysDigest,
      c.rootsDigest,
      c.workflowDigest,
      c.verifierKey,
      encodeList(c.verifiers),
      c.releaserKey,
      c.term,
      c.merkleRoot,
      c.leafCount,
    ),
  )
}

const optional = (bytes: Uint8Array | undefined): Uint8Array => encodeList(bytes === undefined ? [] : [bytes])

/** Every byte of one piece; a field that may be absent is a list of none or one. */
const pieceFields = (piece: Piece): Uint8Array => {
  switch (piece.kind) {
    case "snp":
      return encodeList([piece.kind, piece.report, encodeList(piece.certificates)])
    case "tdx":
      return encodeList([piece.kind, piece.quote, encodeList(piece.certificates), optional(piece.event_log)])
    case "tpm":
      return encodeList([
        piece.kind,
        piece.attest,
        piece.signature,
        piece.ak,
        encodeList(piece.certificates),
        optional(piece.hcl_report),
        encodeList(piece.pcrs.map(({ bank, index, value }) => encodeList([bank, index, value]))),
        optional(piece.boot_log),
        optional(piece.ima_log),
      ])
    case "nitro":
      return encodeList([piece.kind, piece.document])
  }
}

/**
 * Of the control plane as one node accepted it: everything that its Evidence binds, and the Evidence itself, each piece
 * in its place. 32 bytes.
 */
export const controlDigest = (crypto: Crypto, binding: ControlBinding, evidence: Evidence): Uint8Array =>
  digest(
    crypto,
    labels.controlDigest,
    controlReportData(crypto, binding),
    encodeList(evidence.pieces.map(pieceFields)),
  )

/** What a node's Evidence binds. */
export interface NodeBinding {
  readonly role: "node"
  /** Suites that the node offers, best first. */
  readonly suites: ReadonlyArray<string>
  readonly domain: string
  readonly workflowDigest: Uint8Array
  readonly controlDigest: Uint8Array
  /** N, the node's own, 32 bytes. */
  readonly nonce: Uint8Array
  /** V, the relying parties', 32 bytes. */
  readonly challenge: Uint8Array
  readonly nodeId: string
  /** 16 bytes, chosen by the loader at each attestation. */
  readonly session: Uint8Array
  /** Ed25519. */
  readonly signingKey: Uint8Array
  /** X25519. */
  readonly dhKey: Uint8Array
  /** ML-KEM-768 (1,184 bytes), empty where no suite on offer has a post-quantum half. */
  readonly kemKey: Uint8Array
  /** SHA-384 of what the attester found in the kernel. */
  readonly dataplane: Uint8Array
  readonly bootId: Uint8Array
}

/** @returns 64 bytes for the report data of a node's Evidence. */
export const nodeReportData = (crypto: Crypto, n: NodeBinding): Uint8Array => {
  expectBytes("workflowDigest", n.workflowDigest, 32)
  expectBytes("controlDigest", n.controlDigest, 32)
  expectBytes("nonce", n.nonce, 32)
  expectBytes("challenge", n.challenge, 32)
  expectBytes("session", n.session, 16)
  expectBytes("signingKey", n.signingKey, 32)
  expectBytes("dhKey", n.dhKey, 32)
  if (n.kemKey.length !== 0) expectBytes("kemKey", n.kemKey, 1_184)
  expectBytes("dataplane", n.dataplane, 48)
  expectBytes("bootId", n.bootId, 16)
  return crypto.sha512(
    encodeFields(
      labels.nodeReportData,
      n.role,
      encodeList(n.suites),
      n.domain,
      n.workflowDigest,
      n.controlDigest,
      n.nonce,
      n.challenge,
      n.nodeId,
      n.session,
      n.signingKey,
      n.dhKey,
      n.kemKey,
      n.dataplane,
      n.bootId,
    ),
  )
}
