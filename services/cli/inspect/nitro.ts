/** A Nitro document: it brings its own certificates. */
import {
  describeNitro,
  NitroError,
  parseDocument,
  type VerifiedNitro,
  verifyNitro,
} from "../../evidence/nitro/index.ts"
import type { Context } from "./context.ts"
import type { Item } from "./files.ts"
import { checksOf, errorOf, type Inspection, type Stage } from "./inspection.ts"
import { checkNonce } from "./nonce.ts"

export const inspectNitro = (item: Item, context: Context): Inspection => {
  const { at } = context
  const result = verifyNitro({ document: item.bytes }, { now: at, debug: "accept" })
  const base = { file: item.path, kind: "nitro", at: at.toISOString(), usable: true } as const
  if (result instanceof NitroError) {
    const { fields, platform } = decoded(item.bytes)
    return {
      ...base,
      genuine: false,
      platform,
      version: null,
      status: {},
      fields,
      certificates: [],
      checks: checksOf(stagesOf(), result),
      error: errorOf(result),
    }
  }
  const nonce = checkNonce(result.document.nonce, "nonce", context)
  const broken = nonce.find((check) => check.result === "failed")
  const { fields } = decoded(item.bytes)
  return {
    ...base,
    genuine: broken === undefined,
    platform: describeNitro(result),
    version: null,
    status: { debug: result.debug, madeAt: result.document.timestamp.toISOString() },
    fields,
    certificates: result.certificates,
    checks: [
      ...checksOf(stagesOf(result)),
      {
        name: "debug mode",
        result: "not applicable",
        found: result.debug ? "DEBUG: PCRs 0, 1 and 2 are zero, a policy must refuse it" : "measured boot",
        wanted: "judged by a policy",
      },
      ...nonce,
    ],
    error:
      broken === undefined
        ? null
        : {
            code: "NONCE_MISMATCH",
            field: "document.nonce",
            message: `found ${broken.found}, wanted ${broken.wanted}`,
          },
  }
}

const decoded = (bytes: Uint8Array): { fields: Record<string, unknown>; platform: string | null } => {
  try {
    const {
      platform,
      timestamp,
      pcrs,
      certificate: _,
      cabundle: __,
      signature: ___,
      signed: ____,
      ...rest
    } = parseDocument(bytes)
    const fields = { ...rest, timestamp: timestamp.getTime(), pcrs: Object.fromEntries(pcrs) }
    return { fields, platform: platform === "nitro-tpm" ? "AWS NitroTPM" : "AWS Nitro Enclaves" }
  } catch (error) {
    if (error instanceof NitroError) return { fields: {}, platform: null }
    throw error
  }
}

const certificateCodes = /^CERTIFICATE_(?:MALFORMED|ALGORITHM|ROLE|PATH_LENGTH|ISSUER|SIGNATURE|EXTENSION)$/

const stagesOf = (verified?: VerifiedNitro): readonly Stage[] => {
  const ends = verified?.certificates.map(({ notAfter }) => notAfter.getTime()) ?? []
  const until = ends.length === 0 ? "" : `until ${new Date(Math.min(...ends)).toISOString()}`
  return [
    {
      name: "document format",
      codes: /^DOCUMENT_(?!SIGNATURE)|^CHAIN_|^TIME_/,
      wanted: "COSE_Sign1 with ES384, AWS's fields",
      found: verified?.platform ?? "",
    },
    {
      name: "pinned root",
      codes: /^ROOT_/,
      wanted: "AWS's key",
      found: verified ? `${verified.root.name} ${verified.root.key_digest}` : "",
    },
    {
      name: "certificate chain",
      codes: certificateCodes,
      wanted: "ECDSA P-384 signatures from the root down",
      found: verified?.certificates.map(({ role }) => role).join(" < ") ?? "",
    },
    {
      name: "certificate dates",
      codes: /^CERTIFICATE_(?:EXPIRED|NOT_YET)/,
      wanted: "valid when the document was made and at that time",
      found: until,
    },
    {
      name: "document signature",
      codes: /^DOCUMENT_SIGNATURE$/,
      wanted: "ECDSA P-384 by the leaf",
      found: verified ? "holds" : "",
    },
  ]
}
