/** `vouchsafe result`: shows results in any of their forms, and exports EARs. Nothing that is shown is believed by anyone. */
import { mkdirSync, readFileSync, readSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import type { EarAppraisal } from "../../schemas/ear.ts"
import { limits } from "../../schemas/limits.ts"
import type { RecordSubject } from "../../schemas/messages/record.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import {
  createEarKey,
  EarError,
  type EarKey,
  earAlgorithms,
  earOf,
  jwksOf,
  readEarKey,
  readJwks,
  signEar,
} from "../evidence/ear/index.ts"
import { chipBytesOf, machineOf, verifyPieces } from "../evidence/index.ts"
import { RecordError, replayLookup, unpackRecord } from "../evidence/record/index.ts"
import { kemKeyDigest } from "../make/result.ts"
import { reportUnusable } from "./appraise-command.ts"
import { workflowOf } from "./appraise-workflow.ts"
import { isFolder, readItem, readRecordItem } from "./inspect/files.ts"
import { UnusableError } from "./inspect/inspection.ts"
import { createOutput, type Output, UsageError } from "./output.ts"
import { replay } from "./replay.ts"
import { showResult } from "./result-show.ts"

const usage = `vouchsafe result show FILE|- [--keys JWKS] [--json]
       vouchsafe result export RECORD --keys DIR [--valid SECONDS] [--out DIR] [--json]
       vouchsafe result keygen DIR

  show prints a signed result, a record of a verdict, or an EAR (a JWT), with what its signature is worth. Exit status: 0
  shown, 3 its signature is wrong, 2 nothing that is known. --keys: a JWK Set that an EAR's signature may be of.

  export replays a record and writes its verdict as an EAR (draft-ietf-rats-ear-04) for relying parties elsewhere: two
  JWTs, of EdDSA (Ed25519) and ES256. A refusal is exported too. It is never an input: no part of vouchsafe takes one in.
  --keys DIR        ear-ed25519.pem and ear-es256.pem, as keygen makes them, or others' (PKCS #8)
  --valid SECONDS   how long after the verdict the tokens count (300), at most 86400: older ones aren't exported
  --out DIR         writes NODE.eddsa.jwt and NODE.es256.jwt there instead of printing them

  keygen makes the exporter's two keys in DIR, and jwks.json for those who verify.
`

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  keys: { type: "string" },
  valid: { type: "string", default: "300" },
  out: { type: "string" },
} as const

type Values = ReturnType<typeof parse>["values"]
const parse = (args: readonly string[]) =>
  parseArgs({ args: [...args], options, allowPositionals: true, strict: true })

const keyFiles = { EdDSA: "ear-ed25519.pem", ES256: "ear-es256.pem" } as const

/** @throws UsageError */
export const resultCommand = (args: readonly string[]): 0 | 2 | 3 => {
  const { values, positionals } = parse(args)
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  const [command, path, ...more] = positionals
  if (more.length > 0) throw new UsageError(`result: "${more[0]}" is one argument too many`)
  if (path === undefined) throw new UsageError("result: show FILE, export RECORD or keygen DIR")
  const out = createOutput(values.json)
  try {
    switch (command) {
      case "show":
        return showResult(out, readInput(path), path, keysFrom(values.keys))
      case "export":
        return exportEar(out, path, values)
      case "keygen":
        return keygen(out, path)
      default:
        throw new UsageError(`result: "${command ?? ""}" is none of show, export, keygen`)
    }
  } catch (error) {
    return reportUnusable(
      out,
      error instanceof EarError ? new UnusableError(error.code, error.field, error.message) : error,
    )
  }
}

const readInput = (path: string): Uint8Array =>
  path === "-" ? readStandardInput() : readRecordItem(path).bytes

const readStandardInput = (): Uint8Array => {
  const bytes = new Uint8Array(limits.recordBytes + 1)
  let length = 0
  for (let read = -1; read !== 0 && length < bytes.length; length += read) {
    try {
      read = readSync(0, bytes, length, bytes.length - length, null)
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EOF") break
      throw new UnusableError("FILE_UNREADABLE", "file", "standard input can't be read")
    }
  }
  if (length > limits.recordBytes)
    throw new UnusableError("FILE_TOO_LARGE", "file", `more than ${limits.recordBytes} bytes`)
  return bytes.subarray(0, length)
}

const keysFrom = (path: string | undefined): readonly EarKey[] => {
  if (path === undefined) return []
  const file = isFolder(path) ? join(path, "jwks.json") : path
  return readJwks(new TextDecoder().decode(readItem(file).bytes))
}

const keygen = (out: Output, folder: string): 0 => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const keys = earAlgorithms.map((algorithm) => {
    const { key, pem } = createEarKey(algorithm)
    write(join(folder, keyFiles[algorithm]), pem, 0o600)
    return key
  })
  const public_keys = join(folder, "jwks.json")
  write(public_keys, `${JSON.stringify(jwksOf(keys), null, 2)}\n`, 0o644)
  const ids = Object.fromEntries(keys.map(({ algorithm, id }) => [algorithm, id]))
  out.result({ folder, public_keys, keys: ids }, [
    `The exporter's keys are in ${folder}: ${Object.values(keyFiles).join(", ")}.`,
    `Their public halves, for relying parties: ${public_keys}`,
  ])
  return 0
}

const write = (path: string, text: string, mode: number, flag: "w" | "wx" = "wx"): void => {
  try {
    writeFileSync(path, text, { mode, flag })
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "can't be written"
    throw new UnusableError("FILE_UNWRITABLE", "file", `${path}: ${code}`)
  }
}

/** Only a verdict that comes out the same today is exported: what is signed has been seen. */
const exportEar = (out: Output, path: string, values: Values): 0 => {
  const { keys: folder, valid } = values
  if (folder === undefined) throw new UsageError("--keys DIR is missing")
  const validSeconds = Number(valid)
  if (!/^\d{1,5}$/.test(valid) || validSeconds < 1 || validSeconds > 86_400)
    throw new UsageError("--valid: must be 1 to 86400 seconds")
  const keys = earAlgorithms.map((algorithm) => {
    const file = join(folder, keyFiles[algorithm])
    const key = readEarKey(readItem(file).bytes, keyFiles[algorithm])
    if (key.algorithm !== algorithm)
      throw new EarError("KEY_UNFIT", keyFiles[algorithm], `is a key for ${key.algorithm}`)
    return key
  })
  const record = unpackRecord(readRecordItem(path).bytes)
  const { same, recorded } = replay(record, path)
  if (!same)
    throw new RecordError(
      "VERDICT_DIFFERS",
      "verdict",
      "doesn't come out the same: see vouchsafe appraise --replay",
    )
  const document = workflowOf(record, path, undefined)
  const claims = earOf({
    verdict: recorded,
    attester: attesterClaims(record.subject, document, new Date(record.at_ms), record.consulted),
    build: version(),
    now: new Date(),
    validSeconds,
  })
  const tokens = keys.map((key) => [key.algorithm, signEar(claims, key)] as const)
  const name = recorded.node ?? "machine"
  if (values.out !== undefined) {
    mkdirSync(values.out, { recursive: true })
    for (const [algorithm, token] of tokens)
      write(join(values.out, `${name}.${algorithm.toLowerCase()}.jwt`), `${token}\n`, 0o644, "w")
  }
  out.result(
    { claims, tokens: Object.fromEntries(tokens) },
    values.out === undefined
      ? tokens.map(([, token]) => token)
      : tokens.map(([algorithm]) => join(values.out ?? "", `${name}.${algorithm.toLowerCase()}.jwt`)),
  )
  return 0
}

const version = (): string => {
  const path = fileURLToPath(new URL("../../package.json", import.meta.url))
  const { version: found } = JSON.parse(readFileSync(path, "utf8")) as { version: string }
  return found
}

/** What genuine evidence binds. Looked up again in the evidence: the verdict's words are for people. */
const attesterClaims = (
  subject: RecordSubject,
  { document }: ReturnType<typeof workflowOf>,
  now: Date,
  consulted: Parameters<typeof replayLookup>[0],
): EarAppraisal["ear_attester_claims"]["vouchsafe"] => {
  const evidence = subject.kind === "node" ? subject.evidence.evidence : subject.evidence
  const machine = machineOf(
    verifyPieces(evidence, {
      roots: document.roots,
      now,
      ...(consulted.length > 0 && { collateral: replayLookup(consulted) }),
    }),
  )
  const chip = machine && chipBytesOf(machine)
  const own = { ...(chip && { chip: toHex(chip) }) }
  if (subject.kind === "pieces")
    return { ...own, ...(subject.dataplane && { dataplane: toHex(subject.dataplane) }) }
  const { claims } = subject.evidence
  return {
    ...own,
    domain: claims.domain,
    node: claims.node,
    session: toHex(claims.session),
    boot: toHex(claims.boot),
    signing_key: toHex(claims.signing_key),
    dh_key: toHex(claims.dh_key),
    kem_key_digest: toHex(kemKeyDigest(crypto, claims.kem_key)),
    dataplane: toHex(claims.dataplane),
  }
}
