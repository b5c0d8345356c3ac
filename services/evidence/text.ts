/** How values are written in errors and results. */

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** ISO 8601 in UTC, or "no date" where it is none. */
export const isoOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "no date" : date.toISOString())
