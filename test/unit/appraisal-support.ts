/**
 * For the tests of appraisals: a workflow as people write it, read as services read it, and machines of every platform
 * made here: TDX, TPM and Nitro from labs' hierarchies, SNP from the emulated one.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto"
import { stringify } from "yaml"
import type { TpmRun } from "../../schemas/messages/attestation.ts"
import type { Evidence, PcrValue, TdxPiece, TpmPiece } from "../../schemas/messages/common.ts"
import type { Chip, Demands, HardwareRoot } from "../../schemas/platforms.ts"
import {
  type Appraisal,
  type AppraisalClaims,
  type AppraisalPolicy,
  appraise,
  type CollateralLookup,
  eventTypes,
  tpmExtraData,
  verifyPieces,
} from "../../services/evidence/index.ts"
import { bodyAt } from "../../services/evidence/tdx/td-report.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import type { Hierarchy } from "../support/tdx-lab.ts"
import { dataplane, reportData } from "./evidence-support.ts"

/** One stage and one node of it, written as YAML and read back with every check of the document. */
export const policyOf = (
  demands: Demands,
  roots: readonly HardwareRoot[],
  chip: Chip | "any" = "any",
): AppraisalPolicy => {
  const { stages, nodes, ...document } = parseWorkflow(
    stringify(
      {
        workflow: "example",
        domain: "lab",
        version: 1,
        not_after: "2030-01-01T00:00:00Z",
        suite: "chacha20-poly1305",
        lease_seconds: 30,
        roots,
        stages: { source: { ...demands, dataplane: [dataplane] } },
        nodes: [{ id: "n1", stage: "source", chip, address: "10.77.0.1", wire: "10.99.0.11" }],
        edges: [],
      },
      { aliasDuplicateObjects: false },
    ),
  )
  const [stage, node] = [stages.source, nodes[0]]
  if (stage === undefined || node === undefined) throw new Error("no stage")
  return { ...stage, roots: document.roots, chips: typeof node.chip === "string" ? "any" : [node.chip] }
}

export const claims: AppraisalClaims = { reportData, extraData: tpmExtraData(reportData), dataplane }

/** Verified and appraised as the verifier does it. */
export const judge = (
  evidence: Evidence,
  policy: AppraisalPolicy,
  now: Date,
  options: { readonly claims?: Partial<AppraisalClaims>; readonly collateral?: CollateralLookup } = {},
): Appraisal => {
  const { collateral } = options
  const pieces = verifyPieces(evidence, { roots: policy.roots, now, ...(collateral && { collateral }) })
  return appraise(pieces, policy, { ...claims, ...options.claims }, now)
}

/** Accepted, or the first check that failed with what it found. */
export const outcome = ({ verdict, reason }: Appraisal): string =>
  verdict === "accepted" ? "accepted" : (reason?.name ?? "no reason")

export const checkOf = ({ checks }: Appraisal, name: string) => {
  const found = checks.filter((check) => check.name === name)
  if (found.length !== 1) throw new Error(`${found.length} checks called ${name}`)
  return found[0]
}

/** A quote of the lab's hierarchy over this report data; what else differs, `change` says. */
export const tdxPiece = (
  lab: Hierarchy,
  content: Parameters<Hierarchy["quote"]>[0] & { readonly reportData?: Uint8Array } = {},
): TdxPiece => {
  const { change, reportData: data = reportData, ...others } = content
  return {
    kind: "tdx",
    quote: lab.quote({
      ...others,
      change: (td) => {
        td.set(data, bodyAt.reportData)
        change?.(td)
      },
    }),
    certificates: [],
  }
}

export const none: CollateralLookup = { snp: () => ({}), tdx: () => ({}) }

export const sha256 = (...parts: readonly Uint8Array[]): Uint8Array =>
  Uint8Array.from(createHash("sha256").update(Buffer.concat(parts)).digest())

const u16be = (value: number) => Uint8Array.of(value >> 8, value & 0xff)
const sized = (bytes: Uint8Array) => Buffer.concat([u16be(bytes.length), bytes])

/** An attestation key that this process holds: to a verifier it looks like any TPM's. */
export interface SoftTpm {
  readonly key: KeyObject
  readonly spki: Uint8Array
  /** SHA-256 of it, hex. */
  readonly digest: string
}

export const makeTpm = (): SoftTpm => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const spki = Uint8Array.from(publicKey.export({ format: "der", type: "spki" }))
  return { key: privateKey, spki, digest: Buffer.from(sha256(spki)).toString("hex") }
}

export interface QuoteContent {
  readonly extraData?: Uint8Array
  readonly pcrs?: readonly PcrValue[]
  readonly bootLog?: Uint8Array
  readonly run?: TpmRun
}

const clockOf = ({ resets, restarts, clock_ms, safe }: TpmRun): Uint8Array => {
  const bytes = Buffer.alloc(17)
  bytes.writeBigUInt64BE(clock_ms)
  bytes.writeUInt32BE(resets, 8)
  bytes.writeUInt32BE(restarts, 12)
  bytes[16] = safe ? 1 : 0
  return bytes
}

const hashIds = { sha256: 0x000b, sha384: 0x000c, sha512: 0x000d } as const

/** TPMS_ATTEST of a quote over these registers (TPM 2.0 part 2, 10.12), with SHA-256 as the signature's hash. */
export const tpmPiece = (tpm: SoftTpm, content: QuoteContent = {}): TpmPiece => {
  const { extraData = claims.extraData, pcrs = [pcr(7, 7)], bootLog } = content
  const { run = { resets: 5, restarts: 2, clock_ms: 1_000_000n, safe: true } } = content
  const banks = [...new Set(pcrs.map(({ bank }) => bank))]
  const selections = banks.map((bank) => {
    const bits = new Uint8Array(3)
    for (const one of pcrs)
      if (one.bank === bank) bits[one.index >> 3] = (bits[one.index >> 3] ?? 0) | (1 << (one.index & 7))
    return Buffer.concat([u16be(hashIds[bank]), Uint8Array.of(3), bits])
  })
  const ordered = banks.flatMap((bank) =>
    pcrs.filter((one) => one.bank === bank).toSorted((a, b) => a.index - b.index),
  )
  const attest = Buffer.concat([
    Buffer.from("ff5443478018", "hex"),
    sized(Buffer.concat([u16be(0x000b), new Uint8Array(32).fill(0x51)])),
    sized(extraData),
    clockOf(run),
    new Uint8Array(8).fill(2),
    Uint8Array.of(0, 0, 0, selections.length),
    ...selections,
    sized(sha256(...ordered.map(({ value }) => value))),
  ])
  const raw = sign("sha256", attest, { key: tpm.key, dsaEncoding: "ieee-p1363" })
  const signature = Buffer.concat([
    u16be(0x0018),
    u16be(0x000b),
    sized(raw.subarray(0, 32)),
    sized(raw.subarray(32)),
  ])
  return {
    kind: "tpm",
    attest: Uint8Array.from(attest),
    signature: Uint8Array.from(signature),
    ak: tpm.spki,
    certificates: [],
    pcrs: [...pcrs],
    ...(bootLog && { boot_log: bootLog }),
  }
}

export const pcr = (index: number, fill: number, bank: PcrValue["bank"] = "sha256"): PcrValue => ({
  bank,
  index,
  value: new Uint8Array({ sha256: 32, sha384: 48, sha512: 64 }[bank]).fill(fill),
})

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: number) => Buffer.concat([u32(value), u32(0)])

export interface LogLine {
  readonly register: number
  readonly type: number
  readonly data: Uint8Array
  /** Of the data when left out. */
  readonly digest?: Uint8Array
}

const logBanks = { sha256: { id: 0x0b, bytes: 32 }, sha384: { id: 0x0c, bytes: 48 } } as const

/** A crypto-agile log of one bank, and the registers that it leads to. */
export const logOf = (
  lines: readonly LogLine[],
  bank: keyof typeof logBanks = "sha256",
): { readonly bytes: Uint8Array; readonly registers: ReadonlyMap<number, Uint8Array> } => {
  const { id, bytes } = logBanks[bank]
  const hash = (...parts: readonly Uint8Array[]) =>
    Uint8Array.from(createHash(bank).update(Buffer.concat(parts)).digest())
  const idEvent = Buffer.concat([
    Buffer.from("Spec ID Event03\0", "latin1"),
    Buffer.alloc(8),
    u32(1),
    Uint8Array.of(id, 0, bytes, 0, 0),
  ])
  const header = [u32(0), u32(eventTypes.EV_NO_ACTION), Buffer.alloc(20), u32(idEvent.length), idEvent]
  const registers = new Map<number, Uint8Array>()
  const events = lines.map(({ register, type, data, digest = hash(data) }) => {
    registers.set(register, hash(registers.get(register) ?? new Uint8Array(bytes), digest))
    return Buffer.concat([
      u32(register),
      u32(type),
      u32(1),
      Uint8Array.of(id, 0),
      digest,
      u32(data.length),
      data,
    ])
  })
  return { bytes: Uint8Array.from(Buffer.concat([...header, ...events])), registers }
}

export const secureBootLine = (register: number, value: number): LogLine => ({
  register,
  type: eventTypes.EV_EFI_VARIABLE_DRIVER_CONFIG,
  data: Buffer.concat([
    Buffer.from("61dfe48bca93d211aa0d00e098032b8c", "hex"),
    u64("SecureBoot".length),
    u64(1),
    Buffer.from("SecureBoot", "utf16le"),
    Uint8Array.of(value),
  ]),
})

export const separatorLine = (register: number): LogLine => ({
  register,
  type: eventTypes.EV_SEPARATOR,
  data: new Uint8Array(4),
})
