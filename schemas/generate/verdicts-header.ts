/** `bpf/verdicts.h`: the table of verdicts as the BPF programs see it. */
import { VERDICTS_MAX, verdicts } from "../verdicts.ts"

/** The whole text of `bpf/verdicts.h`. Pure: the same table gives the same bytes. */
export const verdictsHeader = (): string => {
  const width = Math.max(...verdicts.map((verdict) => verdict.name.length))
  const lines = verdicts.map(
    (verdict) =>
      `#define VS_V_${verdict.name.padEnd(width)} ${String(verdict.number).padStart(2)} ` +
      `/* ${verdict.outcome}: ${verdict.meaning} */`,
  )
  return [
    "/* SPDX-License-Identifier: GPL-2.0 */",
    "/* Generated from schemas/verdicts.ts by `npm run generate`. Do not edit. */",
    "#ifndef VS_VERDICTS_H",
    "#define VS_VERDICTS_H",
    "",
    ...lines,
    "",
    `_Static_assert(VS_MAX_VERDICTS == ${VERDICTS_MAX}, "the size of the map of verdicts");`,
    "",
    "#endif",
    "",
  ].join("\n")
}
