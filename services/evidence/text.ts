/** How values are written in errors and results. */

export { toHex } from "../common/hex.ts"

/** ISO 8601 in UTC, or "no date" where it is none. */
export const isoOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "no date" : date.toISOString())
