/** PCR values as tools write them: JSON (`{"0": "<hex>", ...}`), or what tpm2_quote leaves beside a quote. */
import { type Bank, banks } from "../../evidence/eventlog/index.ts"
import type { PcrValues } from "../../evidence/tpm/index.ts"
import type { Item } from "./files.ts"
import { recogniseSupport } from "./recognise.ts"

const pcrMost = 31
const bankOfBytes = new Map(Object.entries(banks).map(([name, { bytes }]) => [bytes, name as Bank]))

/** Undefined where the file holds something else. The bank is told by the values' length. */
export const pcrValuesOf = (item: Item, selections: ReadonlyArray<PcrOrder>): PcrValues | undefined =>
  recogniseSupport(item.bytes) === "json" ? fromJson(item.bytes) : fromTool(item.bytes, selections)

const fromJson = (bytes: Uint8Array): PcrValues | undefined => {
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(bytes).toString("utf8"))
  } catch {
    return undefined
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined
  const found = new Map<Bank, Map<number, Uint8Array>>()
  for (const [name, value] of Object.entries(json)) {
    const index = Number(name)
    if (
      !/^\d{1,2}$/.test(name) ||
      index > pcrMost ||
      typeof value !== "string" ||
      !/^(?:[0-9a-f]{2})+$/i.test(value)
    )
      return undefined
    const bank = bankOfBytes.get(value.length / 2)
    if (bank === undefined) return undefined
    const values = found.get(bank) ?? new Map<number, Uint8Array>()
    found.set(bank, values.set(index, new Uint8Array(Buffer.from(value, "hex"))))
  }
  return found.size === 0 ? undefined : Object.fromEntries(found)
}

/** The banks and registers of a quote, in its order: the tool's file holds values alone, in the same order. */
export interface PcrOrder {
  readonly bank?: Bank
  readonly pcrs: readonly number[]
}

/** tpm2-tools: a TPML_PCR_SELECTION in 132 bytes, a number of lists, then lists of up to 8 digests in 532 bytes each. */
const toolHeadBytes = 132
const toolListBytes = 532
const toolDigestBytes = 66

const fromTool = (bytes: Uint8Array, selections: readonly PcrOrder[]): PcrValues | undefined => {
  const lists = (bytes.length - toolHeadBytes - 4) / toolListBytes
  if (!Number.isInteger(lists) || lists < 1 || lists > 16) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (view.getUint32(toolHeadBytes, true) !== lists) return undefined
  const digests: Uint8Array[] = []
  for (let i = 0; i < lists; i++) {
    const at = toolHeadBytes + 4 + i * toolListBytes
    const count = view.getUint32(at, true)
    if (count > 8) return undefined
    for (let n = 0; n < count; n++) {
      const from = at + 4 + n * toolDigestBytes
      const size = view.getUint16(from, true)
      if (size > 64) return undefined
      digests.push(bytes.slice(from + 2, from + 2 + size))
    }
  }
  const found: Partial<Record<Bank, Map<number, Uint8Array>>> = {}
  for (const { bank, pcrs } of selections) {
    if (bank === undefined) return undefined
    const values = digests.splice(0, pcrs.length)
    found[bank] = new Map(
      pcrs.flatMap((pcr, i) => (values[i] === undefined ? [] : [[pcr, values[i]] as const])),
    )
  }
  return digests.length === 0 ? found : undefined
}
