/** Results on a screen. A signature says who, and whether they may say so only a control plane's Evidence can tell. */
import { AttestationResult, EvidenceReply } from "../../schemas/messages/attestation.ts"
import { SignedResult } from "../../schemas/messages/result.ts"
import { decode, type MessageSchema } from "../common/codec/index.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import { type EarKey, looksLikeToken, readEar, type ShownEar } from "../evidence/ear/index.ts"
import { looksLikeRecord, unpackRecord, unpackVerdict } from "../evidence/record/index.ts"
import { MakeError } from "../make/errors.ts"
import { vouchResult } from "../make/result.ts"
import { jsonOf } from "./appraise-command.ts"
import { clip, safe, verdictLines } from "./appraise-table.ts"
import { UnusableError } from "./inspect/inspection.ts"
import type { Output } from "./output.ts"

/**
 * @param keys that an EAR may be signed with
 * @throws UnusableError, EarError, RecordError
 */
export const showResult = (out: Output, bytes: Uint8Array, name: string, keys: readonly EarKey[]): 0 | 3 => {
  const text = Buffer.from(bytes).toString("latin1")
  if (looksLikeToken(text)) return showEar(out, readEar(text, keys))
  if (looksLikeRecord(bytes)) {
    const verdict = unpackVerdict(unpackRecord(bytes).verdict)
    out.result(
      { kind: "verdict-record", ...(jsonOf(verdict) as object) },
      verdictLines(verdict, [["record", `${name} (as it says: appraise --replay gives it again)`]]),
    )
    return 0
  }
  const signed = resultIn(bytes)
  if (signed === undefined)
    throw new UnusableError(
      "KIND_UNKNOWN",
      "file",
      `${name}: ${bytes.length} bytes that are no signed result, no record of a verdict and no EAR`,
    )
  return showSigned(out, signed)
}

const tried = <S extends MessageSchema>(schema: S, bytes: Uint8Array): S["Type"] | undefined => {
  const decoded = decode(schema, bytes, { subject: "result" })
  return decoded.ok ? decoded.value : undefined
}

const resultIn = (bytes: Uint8Array): SignedResult | undefined => {
  const reply = tried(EvidenceReply, bytes)
  if (reply !== undefined) return reply.kind === "result" ? reply.result : undefined
  return tried(SignedResult, bytes)
}

/** By the key that it names itself: right says that it is whole, and wrong that it isn't. */
const isWhole = (signed: SignedResult): boolean => {
  try {
    vouchResult(crypto, [signed.batch.key], signed, (body) => {
      const result = tried(AttestationResult, body)
      if (result === undefined) throw new MakeError("NOT_AUTHENTIC", "result.body", "doesn't decode")
      return result
    })
    return true
  } catch (error) {
    if (error instanceof MakeError) return false
    throw error
  }
}

const lines = (entries: readonly (readonly [string, string])[]): readonly string[] =>
  entries.map(([name, value]) => clip(`  ${name.padEnd(18)}${safe(value)}`, 150))

const showSigned = (out: Output, signed: SignedResult): 0 | 3 => {
  const result = tried(AttestationResult, signed.body)
  if (result === undefined)
    throw new UnusableError("RESULT_MALFORMED", "result.body", "isn't an Attestation Result")
  const whole = isWhole(signed)
  const { v: _, issued_ms, ...fields } = result
  const issued = new Date(issued_ms).toISOString()
  const { key, size } = signed.batch
  out.result(
    {
      kind: "attestation-result",
      signature: whole ? "right" : "wrong",
      key,
      batch: { index: signed.index, size },
      issued,
      ...fields,
    },
    [
      `${whole ? "SIGNED" : "NOT AS IT WAS SIGNED"}  node ${safe(result.node)}, stage ${safe(result.stage)}, ${safe(result.platform)} ${result.assurance === "emulated" ? "(EMULATED)" : `(${result.assurance})`}`,
      ...lines([
        ["issued", `${issued} by ${result.verifier} of control plane ${result.control}`],
        ["key", `${toHex(key)} (whether it is a verifier's, a control plane's Evidence says)`],
        ["batch", `result ${signed.index + 1} of ${size} under one signature`],
        ["domain", result.domain],
        ...Object.entries(fields).flatMap(([name, value]) =>
          value instanceof Uint8Array ? [[name.replaceAll("_", " "), toHex(value)] as const] : [],
        ),
      ]),
      "  A result counts for the lease that a releaser grants on it, and for nobody else.",
    ],
  )
  return whole ? 0 : 3
}

const worth: Readonly<Record<ShownEar["signature"], string>> = {
  right: "right, of a key in --keys",
  wrong: "WRONG: not of the key that it names",
  unknown: "not checked: name the signer's keys with --keys",
}

const showEar = (out: Output, { claims, algorithm, keyId, signature }: ShownEar): 0 | 3 => {
  const { iat, exp, submods, ear_verifier_id: by } = claims
  const iso = (seconds: number) => new Date(Math.min(seconds * 1_000, 8_640_000_000_000_000)).toISOString()
  const isOver = exp * 1_000 <= Date.now()
  out.result({ kind: "ear", signature, algorithm, key: keyId ?? null, expired: isOver, claims }, [
    `EAR of ${safe(by.developer)} ${safe(by.build)}, ${Object.keys(submods).length === 1 ? "one attester" : `${Object.keys(submods).length} attesters`}`,
    ...lines([
      ["signature", `${algorithm}, ${worth[signature]}`],
      ["profile", claims.eat_profile],
      ["issued", `${iso(iat)}, ${isOver ? "EXPIRED" : "counts until"} ${iso(exp)}`],
    ]),
    ...Object.entries(submods).flatMap(([name, one]) => {
      const { vouchsafe: attester } = one.ear_attester_claims
      const { vouchsafe: found } = one.ear_verifier_claims
      const failed = found.checks.filter(({ result }) => result === "failed")
      return [
        "",
        `${one.ear_status.toUpperCase()}  ${safe(name)}, ${safe(attester.platform ?? "no platform")} ${found.assurance === "emulated" ? "(EMULATED)" : `(${found.assurance ?? "nothing genuine"})`}`,
        ...lines([
          [
            "verdict",
            `${found.verdict}${found.code === undefined ? "" : ` ${found.code}`} at ${iso(found.appraised_at)}`,
          ],
          ["policy", one.ear_appraisal_policy_ids.join(", ")],
          ...Object.entries(one.ear_trustworthiness_vector ?? {}).map(
            ([claim, value]) => [claim, `${value}`] as const,
          ),
          ...Object.entries(attester).map(
            ([claim, value]) => [claim.replaceAll("_", " "), `${value}`] as const,
          ),
          ...found.collateral.map(
            ({ kind, sha256, issued_at, expires_at }) =>
              [kind, `${sha256}, of ${iso(issued_at)}, until ${iso(expires_at)}`] as const,
          ),
          ["checks", `${found.checks.length}, ${failed.length} failed`],
          ...failed.map(
            ({ name: check, found: was, wanted }) =>
              [`  ${check}`, `found ${was}, wanted ${wanted}`] as const,
          ),
        ]),
      ]
    }),
  ])
  return signature === "wrong" ? 3 : 0
}
