/** Which workflow a guest obeys, told over a real bus: signed, rising, and not past its end. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { stringify } from "yaml"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus } from "../../services/common/bus/bus.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { type KnownWorkflow, knowWorkflow } from "../../services/guest/known-workflow.ts"
import { workflowSigningBytes } from "../../services/make/workflow-document.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"

let nats: TestNats
const operator = crypto.ed25519.generate()
const stranger = crypto.ed25519.generate()
const trust = {
  domain: "lab",
  operatorKeys: [operator.publicKey],
  threshold: 1,
  controlPlane: { roots: [], assurance: "hardware" as const, platforms: [], chips: "any" as const },
}

const isoSeconds = (ms: number) => new Date(ms).toISOString().replace(/\.\d+Z$/, "Z")

const signed = (version: number, notAfterMs = Date.now() + 3_600_000, key = operator): SignedWorkflow => {
  const document = new TextEncoder().encode(
    stringify({
      workflow: "example",
      domain: "lab",
      version,
      not_after: isoSeconds(notAfterMs),
      suite: "chacha20-poly1305",
      lease_seconds: 30,
      roots: [{ vendor: "amd", product: "Milan", key_digest: "01".repeat(32), emulated: true }],
      stages: {},
      nodes: [],
      edges: [],
    }),
  )
  const signature = crypto.ed25519.sign(workflowSigningBytes(document), key)
  return { v: 1, document, signatures: [{ key: key.publicKey, signature }] }
}

/** Above what the other tests store. */
const LATEST = 1_000

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "loader", instance: "n1" },
  ])
  await withBuses(nats, [["operator", "lab"]], (bus) => bus.ensureStreams)
})
afterAll(() => nats.stop())

const within = (ms: number, done: () => boolean) =>
  Effect.gen(function* () {
    const end = performance.now() + ms
    while (!done() && performance.now() < end) yield* Effect.sleep("20 millis")
    return done()
  })

const version = (known: KnownWorkflow) => known.current()?.document.version

describe("knowWorkflow", () => {
  it("obeys what the operator signs, follows it upwards, never back, and never a stranger's", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (boss, bus) =>
        Effect.gen(function* () {
          const changes: Array<number> = []
          const known = yield* knowWorkflow(crypto, trust, {
            onChange: ({ document }) => Effect.sync(() => void changes.push(document.version)),
          }).pipe(Effect.provideService(Bus, bus))
          expect(known.current()).toBeUndefined()
          yield* boss.workflows.put("lab", signed(9, undefined, stranger))
          yield* boss.workflows.put("lab", signed(2))
          expect((yield* known.first).document.version).toBe(2)
          yield* boss.workflows.put("lab", signed(1))
          yield* boss.workflows.put("lab", signed(2, Date.now() + 7_200_000))
          yield* boss.workflows.put("lab", signed(3))
          expect(yield* within(3_000, () => version(known) === 3)).toBe(true)
          expect(changes).toEqual([2, 3])
          const refused = (yield* boss.history({ after: 0, most: 100 })).filter(
            ({ event }) => event.type === "vouchsafe.workflow.refused",
          )
          // A bucket keeps the newest: what is overtaken before it is read need not be refused, but nothing else may be.
          for (const { event } of refused) expect(["UNSIGNED", "INCONSISTENT"]).toContain(event.data.code)
        }),
    ))

  it("obeys nothing any more when the document's own end has come", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (boss, bus) =>
        Effect.gen(function* () {
          // Seconds are the document's precision: an end four to five seconds from now.
          yield* boss.workflows.put("lab", signed(10, Date.now() + 5_000))
          const known = yield* knowWorkflow(crypto, trust).pipe(Effect.provideService(Bus, bus))
          expect((yield* known.first).document.version).toBe(10)
          expect(version(known)).toBe(10)
          expect(yield* within(8_000, () => known.current() === undefined)).toBe(true)
        }),
    ))

  it("remembers the latest end of all that were in force", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (boss, bus) =>
        Effect.gen(function* () {
          const known = yield* knowWorkflow(crypto, trust).pipe(Effect.provideService(Bus, bus))
          expect(known.latestEndMs()).toBeUndefined()
          const [late, early] = [Date.now() + 30 * 86_400_000, Date.now() + 86_400_000]
          // What nobody of the domain has signed has no end.
          yield* boss.workflows.put("lab", signed(LATEST, late + 86_400_000, stranger))
          yield* boss.workflows.put("lab", signed(LATEST, late))
          expect(yield* within(8_000, () => version(known) === LATEST)).toBe(true)
          yield* boss.workflows.put("lab", signed(LATEST + 1, early))
          expect(yield* within(8_000, () => version(known) === LATEST + 1)).toBe(true)
          expect(known.latestEndMs()).toBe(Date.parse(isoSeconds(late)))
        }),
    ))

  it("finds what the bus kept from it: while it knows none, when in doubt, and by looking", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (boss, bus) =>
        Effect.gen(function* () {
          let gets = 0
          const { get } = bus.workflows
          const counted: typeof get = (domain) =>
            Effect.suspend(() => {
              gets += 1
              return get(domain)
            })
          const deaf = { ...bus, workflows: { ...bus.workflows, get: counted, watch: () => Effect.void } }
          const on = Effect.provideService(Bus, deaf)
          const known = yield* knowWorkflow(crypto, trust).pipe(on)
          yield* boss.workflows.put("lab", signed(11))
          expect(yield* within(8_000, () => version(known) === 11)).toBe(true)

          yield* boss.workflows.put("lab", signed(12))
          yield* Effect.sleep(1_500)
          expect(version(known)).toBe(11)
          const before = gets
          const beganMs = performance.now()
          for (let i = 0; i < 200; i++) {
            known.doubt()
            yield* Effect.sleep(10)
          }
          expect(yield* within(8_000, () => version(known) === 12)).toBe(true)
          expect(gets - before).toBeLessThan((performance.now() - beganMs) / 1_000 + 2)

          const looks = yield* knowWorkflow(crypto, trust, { lookMs: 500 }).pipe(on)
          expect(yield* within(8_000, () => version(looks) === 12)).toBe(true)
          yield* boss.workflows.put("lab", signed(13))
          expect(yield* within(8_000, () => version(looks) === 13)).toBe(true)
        }),
    ))
})
