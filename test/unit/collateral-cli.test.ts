/** `vouchsafe collateral` as a program: with real certificates from a mirror on this machine, and a real bus. */
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Bus } from "../../services/common/bus/bus.ts"
import { makeCollateralCache } from "../../services/guest/collateral-cache.ts"
import { withBuses } from "../support/buses.ts"
import { type Mirror, startMirror } from "../support/mirror.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { haveVectors, readVector, vectorsDir } from "./evidence-support.ts"

const main = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url))

let nats: TestNats
let mirror: Mirror
let folder: string
let seedFile: string

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "verifier", instance: "v1" },
  ])
  mirror = await startMirror()
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-collateral-cli-"))
  seedFile = join(folder, "operator.nk")
  writeFileSync(seedFile, nats.seed("operator", "lab"), { mode: 0o600 })
}, 60_000)
afterAll(async () => {
  await mirror.stop()
  await nats.stop()
  rmSync(folder, { recursive: true })
})

interface Ran {
  readonly status: number
  readonly out: string
  readonly err: string
}

const run = (...args: readonly string[]): Promise<Ran> =>
  new Promise((done) => {
    const env = {
      ...process.env,
      VOUCHSAFE_NATS_URL: nats.url,
      VOUCHSAFE_NATS_SEED: seedFile,
      VOUCHSAFE_INSTANCE: "lab",
    }
    execFile(process.execPath, [main, "collateral", ...args], { env, timeout: 60_000 }, (error, out, err) =>
      done({ status: error === null ? 0 : Number(error.code), out, err }),
    )
  })

// biome-ignore lint/suspicious/noExplicitAny: the tool's JSON, looked into field by field
const json = ({ out }: Ran): any => JSON.parse(out)

if (!haveVectors) console.warn("NO COLLATERAL FETCHED: 3 tests of the tool skipped (VOUCHSAFE_VECTORS)")

describe.runIf(haveVectors)("vouchsafe collateral", () => {
  const amd = () => ["--amd", mirror.url, "--intel", mirror.url, "--products", "Milan"]

  it("fetches what a mirror has, says what it hasn't, and is as good the second time", async () => {
    const dir = join(folder, "fetched")
    for (const kind of ["vcek", "vlek"])
      mirror.pages.set(`/${kind}/v1/Milan/cert_chain`, {
        body: readVector(`snp/certs/milan-kds-cert-chain-${kind}.pem`),
      })
    const report = readVector("snp/milan-v2-virtee.report.bin")
    const chip = Buffer.from(report.subarray(0x1a0, 0x1e0)).toString("hex")
    mirror.pages.set(`/vcek/v1/Milan/${chip}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115`, {
      body: readVector("snp/milan-v2-virtee.vcek.der"),
    })
    const args = [
      "fetch",
      "--dir",
      dir,
      ...amd(),
      "--report",
      join(vectorsDir, "snp/milan-v2-virtee.report.bin"),
      "--json",
    ]
    const first = await run(...args)
    expect(first.err).toBe("")
    expect(first.status).toBe(1)
    expect(json(first).missing).toEqual(["amd-crl-Milan"])
    expect(json(first).failures.map(({ code }: { code: string }) => code)).toEqual([
      "HTTP_STATUS",
      "HTTP_STATUS",
    ])
    const names = readdirSync(dir)
    expect(names.map((name) => name.replace(/vcek-\w+/, "vcek")).sort()).toEqual([
      "amd-ark-Milan.der",
      "amd-ask-Milan.der",
      "amd-asvk-Milan.der",
      "amd-vcek.der",
    ])
    for (const name of names) utimesSync(join(dir, name), new Date("2026-01-01"), new Date("2026-01-01"))
    const second = await run(...args)
    expect(json(second).fetched.every(({ outcome }: { outcome: string }) => outcome === "same")).toBe(true)
    for (const name of names)
      expect(statSync(join(dir, name)).mtimeMs).toBeGreaterThan(Date.parse("2026-01-02"))
    mirror.faults.set("*", "page")
    const third = await run(...args)
    expect(json(third).fetched.every(({ code }: { code: string }) => code === "COLLATERAL_UNKNOWN")).toBe(
      true,
    )
    expect(readdirSync(dir)).toEqual(names)
    mirror.faults.clear()
  }, 120_000)

  it("shows what is there, of when and until when", async () => {
    const args = [
      "--dir",
      join(vectorsDir, "tdx"),
      "--at",
      "2026-03-25",
      "--products",
      "none",
      "--fmspcs",
      "90c06f000000",
    ]
    const shown = await run("status", ...args, "--json")
    const { items, missing, refused, next_to_expire } = json(shown)
    expect(missing).toEqual([])
    expect(items.find(({ key }: { key: string }) => key === "intel-tcb-info-90c06f000000")).toMatchObject({
      state: "current",
      number: "18",
      issued: "2026-03-16T22:06:09.000Z",
      expires: "2026-04-15T22:06:09.000Z",
    })
    expect(refused.map(({ code }: { code: string }) => code)).toContain("EXPIRED")
    expect(next_to_expire).toMatch(/^intel-/)
    const table = await run("status", ...args)
    expect(table.out).toMatch(/current\s+intel-root-crl\s+2026-02-26 13:04/)
    expect(table.status).toBe(0)
    expect(table.out).not.toMatch(/undefined|NaN|\[object/)
    const later = await run("status", ...args.with(3, "2026-04-20"), "--json")
    expect(later.status).toBe(1)
    expect(json(later).missing).toContain("intel-tcb-info-90c06f000000")
  }, 120_000)

  it("hands a folder to a cluster, whose services take it in", async () => {
    const dir = join(vectorsDir, "snp/certs")
    const pushed = await run("push", "--dir", dir, "--json")
    expect([pushed.status, pushed.err]).toEqual([0, ""])
    expect(json(pushed).pushed).toHaveLength(9)
    expect(json(await run("push", "--dir", dir, "--json")).newer).toEqual([])
    await withBuses(nats, [["verifier", "v1"]], (bus) =>
      Effect.gen(function* () {
        const settings = {
          wants: { products: [], fmspcs: [], cas: [] },
          stale: { unconfirmedMs: Number.POSITIVE_INFINITY },
        }
        const cache = yield* makeCollateralCache({ settings }).pipe(Effect.provideService(Bus, bus))
        expect(cache.snapshot().held.size).toBe(9)
        expect(cache.view(new Date()).snp("Milan")).toEqual({ crls: [] })
      }),
    )
  }, 120_000)
})

describe("vouchsafe collateral, used wrongly,", () => {
  it.each([
    [[], /--dir DIR is missing/],
    [["fetch"], /--dir DIR is missing/],
    [["burn", "--dir", "x"], /none of fetch, status, push/],
    [["status", "--dir", "x", "y"], /too many/],
    [["status", "--dir", "x", "--at", "soon"], /--at/],
    [["status", "--dir", "x", "--products", "Naples"], /--products/],
    [["status", "--dir", "x", "--fmspcs", "12"], /--fmspcs/],
    [["status", "--dir", "x", "--cas", "other"], /--cas/],
    [["fetch", "--dir", "x", "--amd", "file:///etc"], /--amd/],
  ] as const)(
    "%j says so",
    async (args, message) => {
      const { status, err } = await run(...args)
      expect(err).toMatch(message)
      expect(status).toBe(64)
    },
    60_000,
  )

  it("fails for a folder that isn't there", async () => {
    const { status, err } = await run("status", "--dir", join(folder, "none"))
    expect([status, err]).toEqual([1, expect.stringMatching(/ENOENT/)])
  }, 60_000)
})
