/** Certificates as quotes and Intel's services carry them: PEM blocks or DER, end to end. */
import { limits } from "../../../schemas/limits.ts"
import { readAll, tags } from "../der.ts"
import { readingDer } from "./certificate.ts"
import { TdxError } from "./error.ts"

const mostCertificates = 4
const block =
  /-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----(?:\r?\n|(?=\0|$))/y

/**
 * All certificates in `bytes`, in their order. Nothing may stand around the blocks, but for zeros at the end, which
 * quotes bring from C strings; and base64 counts only as it would be written again.
 * @throws TdxError CHAIN_MALFORMED, CHAIN_LENGTH
 */
export const splitCertificates = (field: string, bytes: Uint8Array): Uint8Array[] => {
  if (bytes.length > limits.evidenceBytes)
    throw new TdxError("CHAIN_LENGTH", field, `${bytes.length} bytes`, `at most ${limits.evidenceBytes}`)
  return bytes[0] === tags.sequence ? splitDer(field, bytes) : splitPem(field, bytes)
}

const splitDer = (field: string, bytes: Uint8Array): Uint8Array[] =>
  readingDer(field, "CHAIN_MALFORMED", () => readAll(bytes, mostCertificates).map(({ raw }) => raw))

const splitPem = (field: string, bytes: Uint8Array): Uint8Array[] => {
  const text = Buffer.from(bytes).toString("latin1")
  const found: Uint8Array[] = []
  block.lastIndex = 0
  let end = 0
  for (let match = block.exec(text); match !== null; match = block.exec(text)) {
    if (found.length === mostCertificates)
      throw new TdxError("CHAIN_LENGTH", field, "more", `at most ${mostCertificates} certificates`)
    found.push(decodeBase64(field, match[1] ?? ""))
    end = block.lastIndex
  }
  if (found.length === 0 || !/^\0*$/.test(text.slice(end)))
    throw new TdxError("CHAIN_MALFORMED", field, "something else", "PEM or DER certificates, nothing between")
  return found
}

const decodeBase64 = (field: string, body: string): Uint8Array => {
  const digits = body.replaceAll(/[\r\n]/g, "")
  const der = Buffer.from(digits, "base64")
  if (der.toString("base64") !== digits)
    throw new TdxError("CHAIN_MALFORMED", field, "base64 that isn't canonical", "canonical base64")
  return Uint8Array.from(der)
}
