/**
 * Test vectors of MAKE for other implementations: one run from a hello to the keys of an edge, and its parts at their
 * bounds. All of it is made by the services' own code from fixed inputs.
 *
 *   node test/support/make-spec/vectors.ts     writes services/make/vectors-v1.json
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { labels } from "../../../services/make/labels.ts"
import { encodeFields } from "../../../services/make/transcript.ts"
import { attestationVectors } from "./attestation.ts"
import { type Json, type Vectors, vector } from "./inputs.ts"
import { releaseVectors } from "./releases.ts"

const encoding = () => {
  const fields = [{ text: "ä" }, { bytes: "010203" }, { u32: 5 }, { u64: "6" }]
  const list = [{ list: [{ text: "a" }, { text: "" }, { list: [] }] }]
  const bytes = Uint8Array.of(1, 2, 3)
  return vector(
    "encode",
    { label: "challenge", fields: [...fields, ...list] },
    { encoded: encodeFields(labels.challenge, "ä", bytes, 5, 6n, ["a", "", []]) },
  )
}

export const vectors = (): Vectors => ({ encoding: encoding(), ...attestationVectors(), ...releaseVectors() })

/** As the formatter wants it: a list of texts or numbers in one line where that has room. */
const layout = (value: Json, indent: string, taken: number): string => {
  if (typeof value !== "object") return JSON.stringify(value)
  const inner = `${indent}  `
  if (Array.isArray(value)) {
    const line = `[${value.map((item) => JSON.stringify(item)).join(", ")}]`
    const isFlat = value.every((item) => typeof item !== "object")
    if (isFlat && indent.length + taken + line.length < 110) return line
    return `[\n${value.map((item) => inner + layout(item, inner, 0)).join(",\n")}\n${indent}]`
  }
  const entries = Object.entries(value).map(
    ([name, item]) => `${inner}${JSON.stringify(name)}: ${layout(item, inner, name.length + 4)}`,
  )
  return entries.length === 0 ? "{}" : `{\n${entries.join(",\n")}\n${indent}}`
}

const about =
  "Test vectors of MAKE, version 1 (SPEC.md). Bytes are hex, integers of 64 bits decimal text; messages are JSON as their schemas say, with hex for base64."

export const text = (): string => `${layout({ about, vectors: vectors() as unknown as Json }, "", 0)}\n`

const path = fileURLToPath(new URL("../../../services/make/vectors-v1.json", import.meta.url))

export const stored = (): string => readFileSync(path, "utf8")

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(path, text())
