/**
 * The one canonical encoding: a label and fields, each behind its length. Injective: two different (label, fields) never
 * encode to the same bytes, so a hash or signature over it speaks of exactly one thing.
 */
import type { Evidence, Piece } from "../../schemas/messages/common.ts"
import type { HardwareRoot } from "../../schemas/platforms.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { type Label, labels } from "./labels.ts"

/** Text is UTF-8, a number u32, a bigint u64; integers are big-endian. A list of them is one field, see `encodeList`. */
export type Field = Uint8Array | string | number | bigint | ReadonlyArray<Field>

const utf8 = new TextEncoder()
/** Most encodings are short: they are put together here, since many small buffers cost more than the hash over them. */
const draft = new Uint8Array(4_096)
const draftView = new DataView(draft.buffer)
let lent = false
const LENGTH_BYTES = 4
/** UTF-8 of one UTF-16 unit, at most. */
const UNIT_BYTES = 3

const known = new Map<Label, Uint8Array>()
const labelBytes = (label: Label): Uint8Array => {
  const found = known.get(label)
  if (found !== undefined) return found
  const made = utf8.encode(label)
  known.set(label, made)
  return made
}

const expectText = (text: string): void => {
  if (!text.isWellFormed()) throw new MakeError("MALFORMED", "text", "is not well-formed Unicode")
}

const expectNumber = (value: number | bigint): void => {
  const fits =
    typeof value === "bigint"
      ? value >= 0n && value <= 0xffff_ffff_ffff_ffffn
      : Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff
  if (!fits)
    throw new MakeError("MALFORMED", "number", `must be 0..2^${typeof value === "bigint" ? 64 : 32}-1`)
}

/** Most bytes that a field takes, its length among them. */
const roomFor = (field: Field): number =>
  LENGTH_BYTES +
  (typeof field === "string"
    ? UNIT_BYTES * field.length
    : typeof field === "number"
      ? 4
      : typeof field === "bigint"
        ? 8
        : ArrayBuffer.isView(field)
          ? field.length
          : roomForAll(labels.list, field))

const roomForAll = (label: Label, fields: ReadonlyArray<Field>): number => {
  let room = roomFor(labelBytes(label))
  for (const field of fields) room += roomFor(field)
  return room
}

/**
 * Writes a field's bytes at `at` of a buffer with room for them, and gives their number.
 * @throws MakeError MALFORMED for text with lone surrogates (their encoding isn't injective) and integers out of range
 */
const writeField = (out: Uint8Array, view: DataView, at: number, field: Field): number => {
  if (typeof field === "string") {
    expectText(field)
    return writeText(out, at, field)
  }
  if (typeof field === "number") {
    expectNumber(field)
    view.setUint32(at, field)
    return 4
  }
  if (typeof field === "bigint") {
    expectNumber(field)
    view.setBigUint64(at, field)
    return 8
  }
  if (!ArrayBuffer.isView(field)) return writeFields(out, view, at, labels.list, field)
  out.set(field, at)
  return field.length
}

const writeText = (out: Uint8Array, at: number, text: string): number => {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > 0x7f) return utf8.encodeInto(text, out.subarray(at)).written
    out[at + i] = unit
  }
  return text.length
}

const writeBehindLength = (out: Uint8Array, view: DataView, at: number, field: Field): number => {
  const length = writeField(out, view, at + LENGTH_BYTES, field)
  view.setUint32(at, length)
  return LENGTH_BYTES + length
}

const writeFields = (
  out: Uint8Array,
  view: DataView,
  start: number,
  label: Label,
  fields: ReadonlyArray<Field>,
): number => {
  let at = start + writeBehindLength(out, view, start, labelBytes(label))
  for (const field of fields) at += writeBehindLength(out, view, at, field)
  return at - start
}

/** Lends the encoding to `use`, which keeps nothing of it: it may hold a secret and is overwritten with zeros. */
export const withFields = <A>(
  label: Label,
  fields: ReadonlyArray<Field>,
  use: (bytes: Uint8Array) => A,
): A => {
  const room = roomForAll(label, fields)
  const drafted = room <= draft.length && !lent
  const out = drafted ? draft : new Uint8Array(room)
  if (drafted) lent = true
  try {
    const length = writeFields(out, drafted ? draftView : new DataView(out.buffer), 0, label, fields)
    return use(out.subarray(0, length))
  } finally {
    out.fill(0, 0, room)
    if (drafted) lent = false
  }
}

/** u32 length of the label, label, then for each field its u32 length and its bytes. */
export const encodeFields = (label: Label, ...fields: ReadonlyArray<Field>): Uint8Array =>
  withFields(label, fields, (bytes) => bytes.slice())

/** Any number of values as one field of something else: the order counts. */
export const encodeList = (items: ReadonlyArray<Field>): Uint8Array => encodeFields(labels.list, ...items)

/** SHA-256 of the encoding, 32 bytes. */
export const digest = (crypto: Crypto, label: Label, ...fields: ReadonlyArray<Field>): Uint8Array =>
  withFields(label, fields, (bytes) => crypto.sha256(bytes))

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
