/** `vouchsafe collateral`: fills a folder with what vendors say, shows what is there and until when it counts, hands it to a cluster. */
import { mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import type { Bus } from "../common/bus/bus.ts"
import {
  type ChipAtTcb,
  type CollateralItem,
  type CollateralOutcome,
  type CollateralSnapshot,
  type CollateralStatus,
  collateralItemsOf,
  collateralStatusOf,
  emptySnapshot,
  fileNameOf,
  genuineRoots,
  type IntelCa,
  missingCollateralFor,
  offerCollateral,
  plainStaleRules,
  readCollateralTree,
} from "../evidence/collateral/index.ts"
import { amdService, intelService } from "../evidence/collateral/mirror.ts"
import { productNames, productOfCpuid, type SnpProduct } from "../evidence/snp/product.ts"
import { parseReport } from "../evidence/snp/report.ts"
import { readFmspcs, readProducts } from "../guest/collateral-cache.ts"
import { fetchCollateral, type MirrorFailure, readMirrorUrl } from "../guest/collateral-mirror.ts"
import { readItem } from "./inspect/files.ts"
import { createOutput, type Output, UsageError } from "./output.ts"

const collateralUsage = `vouchsafe collateral fetch --dir DIR [--amd URL] [--intel URL] [what for] [--json]
vouchsafe collateral status --dir DIR [--at TIME] [what for] [--json]
vouchsafe collateral push --dir DIR [--json]

  fetch   asks AMD's and Intel's services, or mirrors of them, for certificates, revocation lists, TCB levels and QE
          identity, and keeps in DIR what is signed up to the vendor's pinned root and isn't older than what is there
  status  says what is in DIR, of when, until when it counts, and what is missing
  push    puts what is in DIR into the cluster's bucket (VOUCHSAFE_NATS_URL, ... of the operator)

  --dir DIR         the folder; files may lie in folders below it, under any name
  --amd URL         AMD's service or a mirror with its addresses (${amdService})
  --intel URL       Intel's service or a mirror with its addresses (${intelService})
  --at TIME         the time to judge at, such as 2026-06-01T00:00:00Z; now if left out
  what for:
    --products A,B  AMD's products: Milan, Genoa, Turin; "none" for none (all)
    --report FILE   an SEV-SNP report whose chip's certificate is wanted too; may be given several times
    --fmspcs X,Y    Intel's platform families, 12 hex digits each (none: nothing is asked of Intel)
    --cas A,B       Intel's authorities: platform, processor (platform)

  Exit status: 0 all is there and counts, 1 something failed, is missing, has expired or is too old, 64 wrong usage.
`

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  dir: { type: "string" },
  amd: { type: "string" },
  intel: { type: "string" },
  at: { type: "string" },
  products: { type: "string" },
  fmspcs: { type: "string" },
  cas: { type: "string", default: "platform" },
  report: { type: "string", multiple: true },
} as const

type Values = ReturnType<typeof parse>["values"]
const parse = (args: readonly string[]) =>
  parseArgs({ args: [...args], options, allowPositionals: true, strict: true })

const used = <T>(option: string, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    throw new UsageError(`--${option}: ${(error as Error).message}`)
  }
}

const isCa = (text: string): text is IntelCa => text === "platform" || text === "processor"

interface WhatFor {
  readonly products: readonly SnpProduct[]
  readonly fmspcs: readonly string[]
  readonly cas: readonly IntelCa[]
}

const whatFor = ({ products, fmspcs, cas }: Values): WhatFor => {
  const names = cas.split(",")
  if (!names.every(isCa)) throw new UsageError("--cas: must be platform, processor or both, with a comma")
  return {
    products:
      products === undefined
        ? productNames
        : products === "none"
          ? []
          : used("products", () => readProducts(products)),
    fmspcs: fmspcs === undefined ? [] : used("fmspcs", () => readFmspcs(fmspcs)),
    cas: names.filter(isCa),
  }
}

const readTime = (text: string | undefined): Date => {
  if (text === undefined) return new Date()
  const time = new Date(text)
  if (!/^\d{4}-\d\d-\d\d(?:T[\d:.]{5,12}(?:Z|[+-]\d\d:\d\d))?$/.test(text) || Number.isNaN(time.getTime()))
    throw new UsageError(`--at: "${text}" is no time such as 2026-06-01T00:00:00Z`)
  return time
}

const chipOf = (path: string, among: readonly SnpProduct[]): ChipAtTcb => {
  const { cpuid, chipId, reportedTcb: tcb } = parseReport(readItem(path).bytes)
  const product = cpuid === undefined ? (among.length === 1 ? among[0] : undefined) : productOfCpuid(cpuid)
  if (product === undefined)
    throw new Error(`${path}: the report doesn't say of which product it is; name one with --products`)
  if (chipId.every((byte) => byte === 0)) throw new Error(`${path}: the report's chip id is masked`)
  return { product, chipId, tcb }
}

/** What is in a folder and counts, and what was refused of it. */
const load = (folder: string, now: Date) =>
  offerCollateral(emptySnapshot, readCollateralTree(folder), { now, roots: genuineRoots })

/** Files that aren't meant to be collateral may lie about; those that are and don't count are named. */
const refusedOf = (outcomes: readonly CollateralOutcome[]): readonly CollateralOutcome[] =>
  outcomes.filter(({ outcome, code }) => outcome === "refused" && code !== "SUPERSEDED")

/** Whole or not at all, whoever reads at the same time. */
const writeItem = (folder: string, item: CollateralItem, now: Date): void => {
  const path = join(folder, fileNameOf(item))
  const next = join(folder, `.${fileNameOf(item)}.${process.pid}`)
  try {
    writeFileSync(next, item.bytes, { mode: 0o644 })
    utimesSync(next, now, now)
    renameSync(next, path)
  } catch (error) {
    rmSync(next, { force: true })
    throw error
  }
}

/** What a fetch has confirmed or brought is written; a file that brought it before, under any name, is as fresh then. */
const keep = (
  folder: string,
  snapshot: CollateralSnapshot,
  outcomes: readonly CollateralOutcome[],
  now: Date,
) => {
  const keys = new Set(outcomes.flatMap(({ outcome, key }) => (outcome === "refused" ? [] : (key ?? []))))
  for (const item of collateralItemsOf(snapshot)) if (keys.has(item.key)) writeItem(folder, item, now)
}

const fetchInto = async (out: Output, folder: string, values: Values): Promise<number> => {
  const wanted = whatFor(values)
  const chips = (values.report ?? []).map((path) => chipOf(path, wanted.products))
  const amd = used("amd", () => readMirrorUrl(values.amd ?? amdService))
  const intel = used("intel", () => readMirrorUrl(values.intel ?? intelService))
  mkdirSync(folder, { recursive: true })
  const before = load(folder, new Date()).snapshot
  const { offered, failures } = await fetchCollateral({ ...wanted, amd, intel, chips })
  const now = new Date()
  const { snapshot, outcomes } = offerCollateral(before, offered, { now })
  keep(folder, snapshot, outcomes, now)
  const missing = missingCollateralFor(snapshot, wanted)
  const refused = outcomes.filter(({ outcome }) => outcome === "refused")
  out.result({ folder, fetched: outcomes, failures, missing }, [
    ...outcomes.map(outcomeLine),
    ...failures.map(failureLine),
    ...missing.map((key) => `missing   ${key}`),
    `${outcomes.length - refused.length} pieces are in ${folder}, ${refused.length} were refused, ${failures.length} couldn't be had.`,
  ])
  return failures.length + refused.length + missing.length === 0 ? 0 : 1
}

const outcomeLine = ({ outcome, name, key, code, message }: CollateralOutcome): string =>
  `${outcome.padEnd(9)} ${(key ?? name).padEnd(44)} ${code === undefined ? "" : `${code}: ${message}`}`.trimEnd()

const failureLine = ({ name, code, message }: MirrorFailure): string =>
  `failed    ${name.padEnd(44)} ${code}: ${message}`

const day = 86_400_000
const iso = (date: Date): string => date.toISOString().slice(0, 16).replace("T", " ")

const statusLine = ({ key, state, issued, expires, number }: CollateralStatus, now: Date): string => {
  const left = Math.floor((expires.getTime() - now.getTime()) / day)
  const until = left > 36_500 ? "-" : `${iso(expires)}  ${`${left} d`.padStart(7)}`
  return `${state.padEnd(8)} ${key.padEnd(44)} ${iso(issued)}  ${until}  ${number === 0n ? "" : `number ${number}`}`.trimEnd()
}

const showStatus = (out: Output, folder: string, values: Values): number => {
  const now = readTime(values.at)
  const wanted = whatFor(values)
  const { snapshot, outcomes } = load(folder, now)
  const items = collateralStatusOf(snapshot, now, plainStaleRules)
  const missing = missingCollateralFor(snapshot, wanted)
  const refused = refusedOf(outcomes)
  const next = items
    .filter(({ kind }) => !kind.endsWith("-certificate"))
    .toSorted((a, b) => a.expires.getTime() - b.expires.getTime())[0]
  out.result({ folder, at: now, items, refused, missing, next_to_expire: next?.key ?? null }, [
    ...items.map((item) => statusLine(item, now)),
    ...refused.map(outcomeLine),
    ...missing.map((key) => `missing  ${key}`),
    next === undefined
      ? "Nothing that expires is here."
      : `Next to expire: ${next.key}, ${iso(next.expires)}.`,
  ])
  return missing.length === 0 && items.every(({ state }) => state === "current") ? 0 : 1
}

type OnBus = <A, E>(run: (bus: Bus["Service"]) => Effect.Effect<A, E>) => Promise<A>

const push = async (out: Output, folder: string, onBus: OnBus): Promise<number> => {
  const now = new Date()
  const { snapshot, outcomes } = load(folder, now)
  const confirmed = new Map(collateralStatusOf(snapshot, now).map((one) => [one.key, one.confirmed]))
  const items = collateralItemsOf(snapshot)
  const left = await onBus((bus) =>
    Effect.gen(function* () {
      yield* bus.ensureStreams
      const stored = yield* bus.collateral.list
      const theirs = stored.map(({ key, piece }) => ({ name: key, source: "bucket", bytes: piece.bytes }))
      const { snapshot: both } = offerCollateral(snapshot, theirs, { now })
      // Another operator's newer pieces stay.
      const newer = items.filter(({ key, sha256 }) => both.held.get(key)?.item.sha256 !== sha256)
      for (const { key, bytes, source } of items)
        if (!newer.some((one) => one.key === key))
          yield* bus.collateral.put(key, {
            v: 1,
            bytes,
            source: source.slice(0, 256),
            confirmed_ms: (confirmed.get(key) ?? now).getTime(),
          })
      return newer.map(({ key }) => key)
    }),
  )
  const refused = refusedOf(outcomes)
  out.result(
    {
      folder,
      pushed: items.map(({ key }) => key).filter((key) => !left.includes(key)),
      newer: left,
      refused,
    },
    [
      ...left.map((key) => `newer    ${key}: the bucket's was left as it is`),
      ...refused.map(outcomeLine),
      `${items.length - left.length} pieces are in the bucket.`,
    ],
  )
  return items.length === 0 ? 1 : 0
}

/**
 * @param args what follows `collateral`
 * @param onBus runs something with the operator's connection
 * @returns the exit status
 * @throws UsageError, CollateralError
 */
export const collateralCommand = async (args: readonly string[], onBus: OnBus): Promise<number> => {
  const { values, positionals } = parse(args)
  if (values.help) {
    process.stdout.write(collateralUsage)
    return 0
  }
  const [command, ...more] = positionals
  if (more.length > 0) throw new UsageError(`collateral: "${more[0]}" is one argument too many`)
  if (values.dir === undefined) throw new UsageError("--dir DIR is missing")
  const folder = resolve(values.dir)
  const out = createOutput(values.json)
  switch (command) {
    case "fetch":
      return fetchInto(out, folder, values)
    case "status":
      return showStatus(out, folder, values)
    case "push":
      return push(out, folder, onBus)
    default:
      throw new UsageError(`collateral: "${command ?? ""}" is none of fetch, status, push`)
  }
}
