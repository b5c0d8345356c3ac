import { type Bank, banks } from "../../services/evidence/eventlog/index.ts"

/** tpm2-tools' own file of registers: the selection list, then lists of up to 8 digests, little-endian. */
export const toolPcrs = (bank: Bank, pcrs: readonly number[], values: readonly Uint8Array[]): Buffer => {
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    return bytes
  }
  const select = Buffer.alloc(16 * 8)
  select.writeUInt16LE(banks[bank].id, 0)
  select[2] = 3
  for (const pcr of pcrs) select[3 + (pcr >> 3)] = (select[3 + (pcr >> 3)] ?? 0) | (1 << (pcr & 7))
  const lists: Buffer[] = []
  for (let i = 0; i < values.length; i += 8) {
    const some = values.slice(i, i + 8)
    const list = Buffer.alloc(4 + 8 * 66)
    list.writeUInt32LE(some.length, 0)
    for (const [j, value] of some.entries()) {
      list.writeUInt16LE(value.length, 4 + j * 66)
      list.set(value, 6 + j * 66)
    }
    lists.push(list)
  }
  return Buffer.concat([u32(1), select, u32(lists.length), ...lists])
}
