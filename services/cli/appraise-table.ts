/** Verdicts for people: what was decided first, then every check, at most 110 columns. */
import type { Check } from "../../schemas/messages/common.ts"
import type { RecordedVerdict } from "../../schemas/messages/record.ts"
import { nobodyAsked } from "../evidence/record/index.ts"

const columns = 110
const indent = 40

/** Nothing of what evidence holds may move the cursor or break a line. */
export const safe = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, "?")

export const clip = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`

const marks: Readonly<Record<Check["result"], string>> = {
  passed: "ok",
  failed: "FAILED",
  "not-applicable": "-",
}

/** Long text goes on below itself, three lines at most; hex in it has no words to break at. */
const wrapped = (text: string): readonly string[] => {
  const width = columns - indent
  return clip(safe(text), 3 * width).match(new RegExp(`.{1,${width}}`, "g")) ?? [""]
}

const hanging = (head: string, text: string): readonly string[] =>
  wrapped(text).map((line, i) => (i === 0 ? head : "").padEnd(indent) + line)

const checkLines = ({ name, result, found, wanted }: Check): readonly string[] => {
  const head = `  ${marks[result].padEnd(6)}  ${name.padEnd(30)}`
  if (result === "failed") return [...hanging(head, `found  ${found}`), ...hanging("", `wanted ${wanted}`)]
  const why = wanted === nobodyAsked ? ` (${nobodyAsked})` : ""
  return [`${clip(`${head}${safe(found)}`, columns - why.length)}${why}`]
}

const iso = (ms: number): string => new Date(ms).toISOString()

/** One line that says it all. */
export const headline = ({
  verdict,
  code,
  stage,
  node,
  platform,
  assurance,
  checks,
}: RecordedVerdict): string =>
  safe(
    [
      verdict === "accepted"
        ? `ACCEPTED${unaskedOf(checks) === undefined ? "" : " as far as asked"}`
        : `REFUSED ${code ?? ""}`.trim(),
      [
        node === undefined ? "" : `node ${node},`,
        `stage ${stage},`,
        platform ?? "no platform",
        assurance === undefined
          ? "(nothing genuine)"
          : assurance === "emulated"
            ? "(EMULATED)"
            : `(${assurance})`,
      ]
        .filter((part) => part !== "")
        .join(" "),
    ].join("  "),
  )

/** What wasn't asked, for people who only read the first lines. */
const unaskedOf = (checks: readonly Check[]): string | undefined => {
  const names = checks.filter(({ wanted }) => wanted === nobodyAsked).map(({ name }) => name)
  return names.length === 0 ? undefined : `not checked, since nobody said what is wanted: ${names.join(", ")}`
}

export const verdictLines = (
  verdict: RecordedVerdict,
  about: readonly (readonly [name: string, text: string])[] = [],
): readonly string[] => {
  const { checks, at_ms } = verdict
  const failed = checks.filter(({ result }) => result === "failed")
  const note = unaskedOf(checks)
  return [
    clip(headline(verdict), columns),
    ...about.map(([name, text]) => clip(`  ${name.padEnd(10)}${safe(text)}`, columns)),
    `  ${"at".padEnd(10)}${iso(at_ms)}`,
    ...(note === undefined ? [] : [clip(`  ${"note".padEnd(10)}${note}`, columns)]),
    ...(failed.length === 0 ? [] : ["", `  ${failed.length} of ${checks.length} checks failed:`]),
    ...failed.flatMap(checkLines),
    "",
    `  ${failed.length === 0 ? "every check" : "the others"} (-: there is no rule):`,
    ...checks.filter(({ result }) => result !== "failed").flatMap(checkLines),
  ]
}
