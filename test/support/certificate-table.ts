/** A host's table of certificates, as the specification lays it out. */

export const tableGuids = {
  vcek: "63da758d-e664-4564-adc5-f4b93be8accd",
  vlek: "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
  ask: "4ab7b379-bbac-4fe4-a02f-05aef327c782",
  ark: "c0b406a4-a803-4952-9743-3fb6014cd0ae",
  crl: "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
} as const

export interface TableEntry {
  readonly guid: Uint8Array
  readonly offset: number
  readonly length: number
}

export const guidBytes = (guid: string): Uint8Array => Buffer.from(guid.replaceAll("-", ""), "hex")

export const encodeEntries = (entries: readonly TableEntry[]): Uint8Array =>
  Buffer.concat(
    entries.map(({ guid, offset, length }) => {
      const entry = Buffer.alloc(24)
      entry.set(guid)
      entry.writeUInt32LE(offset >>> 0, 16)
      entry.writeUInt32LE(length >>> 0, 20)
      return entry
    }),
  )

const end: TableEntry = { guid: new Uint8Array(16), offset: 0, length: 0 }

/** Entries in the order of the argument's fields, contents end to end behind them. */
export const certificateTable = (
  contents: Readonly<Partial<Record<keyof typeof tableGuids, Uint8Array | undefined>>>,
): Uint8Array => {
  const given = Object.entries(contents).filter(
    (one): one is [keyof typeof tableGuids, Uint8Array] => one[1] !== undefined,
  )
  let offset = (given.length + 1) * 24
  const entries = given.map(([name, bytes]) => {
    const entry = { guid: guidBytes(tableGuids[name]), offset, length: bytes.length }
    offset += bytes.length
    return entry
  })
  return Uint8Array.from(
    Buffer.concat([encodeEntries([...entries, end]), ...given.map(([, bytes]) => bytes)]),
  )
}
