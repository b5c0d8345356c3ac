/** A service's collateral over time: sources come, go and lie, and what is looked up only ever gets newer. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConfigProvider, Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Bus } from "../../services/common/bus/bus.ts"
import { collateralItemsOf } from "../../services/evidence/collateral/index.ts"
import { intelRoots } from "../../services/evidence/tdx/index.ts"
import {
  type CollateralSettings,
  collateralConfig,
  makeCollateralCache,
} from "../../services/guest/collateral-cache.ts"
import { withBuses } from "../support/buses.ts"
import { type Mirror, startMirror } from "../support/mirror.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { Hierarchy } from "../support/tdx-lab.ts"

let nats: TestNats
let mirror: Mirror

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "verifier", instance: "v1" },
  ])
  mirror = await startMirror()
}, 60_000)
afterAll(async () => {
  await mirror.stop()
  await nats.stop()
})

const lab = new Hierarchy()
const day = 86_400_000
const from = Date.now()
const at = (days: number): Date => new Date(from + days * day)
const root = lab.certificate("root", { notBefore: at(-30), notAfter: at(300) })
const listOf = (age: number, revoked: readonly number[] = []) =>
  lab.crl("root", { thisUpdate: at(-age), nextUpdate: at(30), revoked })

const often = { everyMs: 100, retryMs: 100 }
const roots = { amd: [], intel: [lab.root] }
const settings = (change: Partial<CollateralSettings> = {}): CollateralSettings => ({
  wants: { products: [], fmspcs: [], cas: [] },
  stale: { unconfirmedMs: day },
  ...change,
})
const piece = (bytes: Uint8Array) => ({ v: 1 as const, bytes, source: "test", confirmed_ms: from })
const rootPath = "/IntelSGXRootCA.der"
const platform = { fmspc: new Uint8Array(6), ca: "platform" } as const

const until = (done: () => boolean) =>
  Effect.gen(function* () {
    for (let i = 0; i < 600 && !done(); i++) yield* Effect.sleep("50 millis")
    expect(done()).toBe(true)
  })
const same = (a: Uint8Array | undefined, b: Uint8Array): boolean =>
  a !== undefined && Buffer.compare(a, b) === 0

describe("a service's collateral", () => {
  it(
    "starts without any source, follows the bucket and mirrors, and never goes back",
    () =>
      withBuses(
        nats,
        [
          ["operator", "lab"],
          ["verifier", "v1"],
        ],
        (operator, verifier) =>
          Effect.gen(function* () {
            const wants = { intel: mirror.url, products: [], fmspcs: ["ee0000000001"], cas: [] }
            const cache = yield* makeCollateralCache({
              settings: settings({ wants, folder: "/nonexistent/collateral" }),
              roots,
              schedule: often,
              nearby: often,
            }).pipe(Effect.provideService(Bus, verifier))
            const shown = () => cache.view(new Date()).tdx(platform).rootCrl
            expect(cache.snapshot().held.size).toBe(0)
            expect(shown()).toBeUndefined()

            // The operator comes later: streams, then pieces, the signer last.
            yield* operator.ensureStreams
            const [oldest, older, newest] = [listOf(3), listOf(2), listOf(1, [2])]
            yield* operator.collateral.put("intel-root-crl", piece(oldest))
            yield* operator.collateral.put("intel-root", piece(root))
            yield* until(() => same(shown(), oldest))

            // A mirror has a newer one, and nothing else.
            mirror.pages.set(rootPath, { body: newest })
            yield* until(() => same(shown(), newest))

            // Both lie from now on.
            mirror.pages.set(rootPath, { body: older })
            yield* operator.collateral.put("intel-root-crl", piece(older))
            const askedThen = mirror.asked.length
            yield* until(() => mirror.asked.length > askedThen + 8)
            expect(same(shown(), newest)).toBe(true)

            // And are gone.
            mirror.faults.set("*", "closed")
            const before = collateralItemsOf(cache.snapshot())
            const askedNow = mirror.asked.length
            yield* until(() => mirror.asked.length > askedNow + 4)
            expect(collateralItemsOf(cache.snapshot())).toEqual(before)
            expect(() => cache.view(new Date(Date.now() + 2 * day)).tdx(platform)).toThrow(/last confirmed/)
          }),
      ),
    120_000,
  )

  it("keeps what a lab's root has signed where the settings name that root, and not otherwise", () =>
    withBuses(nats, [["verifier", "v1"]], (verifier) =>
      Effect.gen(function* () {
        const folder = mkdtempSync(join(tmpdir(), "vouchsafe-collateral-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
        writeFileSync(join(folder, "root.der"), root)
        writeFileSync(join(folder, "list.der"), listOf(1))
        const heldBy = (emulated?: CollateralSettings["emulated"]) =>
          makeCollateralCache({ settings: settings({ folder, ...(emulated && { emulated }) }) }).pipe(
            Effect.map((cache) => [...cache.snapshot().held.keys()]),
            Effect.provideService(Bus, verifier),
          )
        expect(yield* heldBy()).toEqual([])
        expect(yield* heldBy([new Hierarchy().root])).toEqual([])
        expect((yield* heldBy([lab.root])).sort()).toEqual(["intel-root", "intel-root-crl"])
      }),
    ))

  const named = (text: string) =>
    Effect.runPromise(
      collateralConfig
        .parse(ConfigProvider.fromEnv({ env: { VOUCHSAFE_COLLATERAL_EMULATED: text } }))
        .pipe(Effect.map(({ emulated }) => emulated)),
    )

  it("may rest on emulated roots that are named by their keys, never on Intel's called emulated", async () => {
    const { key_digest } = lab.root
    expect(await named(key_digest)).toEqual([lab.root])
    for (const wrong of [key_digest.slice(2), `${key_digest},`, `${intelRoots[0]?.key_digest}`])
      await expect(named(wrong)).rejects.toThrow(/VOUCHSAFE_COLLATERAL_EMULATED/)
  })
})
