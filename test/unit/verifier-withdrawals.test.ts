/** A verifier that looks again at what it has accepted: on news, on refusals, on another document, and once in a while. */
import { Effect, Logger } from "effect"
import { describe, expect, it, vi } from "vitest"
import { limits } from "../../schemas/limits.ts"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Signed } from "../../schemas/messages/common.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import { Bus, type BusShape, type EventDraft, Refused } from "../../services/common/bus/bus.ts"
import { decode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import type { CollateralSnapshot } from "../../services/evidence/collateral/index.ts"
import { EvidenceCaches } from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../../services/guest/appraise-node.ts"
import { verify } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import {
  contentOf,
  HeldResults,
  type NewlyHeld,
  nextChange,
  RESULTS_MOST,
  REVIEW_MS,
  speaksOfNode,
} from "../../services/verifier/held.ts"
import { makeWithdrawals } from "../../services/verifier/withdrawals.ts"
import { now } from "./evidence-support.ts"
import { answer, askedFor, filled, good, revoking, workflow, workflowWith } from "./verifier-support.ts"

const judge = (evidence: NodeEvidence, asked: Outstanding, collateral = good, at = now): Verdict =>
  appraiseNode(
    {
      crypto,
      instance: "v1",
      control: "cp",
      caches: new EvidenceCaches(),
      collateral: () => ({ snp: () => ({}), tdx: () => collateral }),
    },
    evidence,
    asked,
    at,
  )

/** Its times, which are of the lab, are no news to the clock of today unless `at` says so. */
const accepted = (session: number, digest: number, at = new Date()): NewlyHeld => {
  const asked = askedFor(session)
  const evidence = answer(asked)
  const verdict = judge(evidence, asked)
  if (!verdict.accepted) throw new Error(`${verdict.code}: ${JSON.stringify(verdict.reason)}`)
  return { evidence, asked, verdict, at, digest: filled(32, digest) }
}

const refused = (verdict: Verdict) => {
  if (verdict.accepted) throw new Error("accepted")
  return verdict
}

const snapshotOf = (sha256: string): CollateralSnapshot =>
  ({ held: new Map([["intel-pck-crl", { item: { sha256 }, confirmed: new Date() }]]) }) as never

const verifierKey = crypto.ed25519.generate()

interface Seen {
  readonly events: EventDraft[]
  readonly sent: Signed[]
  appraised: number
  collateral: typeof good
  snapshot: CollateralSnapshot
  busy: boolean
  broken: boolean
  beacon: Uint8Array | undefined
  readonly beacons: Map<string, Uint8Array>
}

/** Withdrawals over a bus that writes down what is said. */
const during = (
  play: (withdrawals: Effect.Success<ReturnType<typeof makeWithdrawals>>, seen: Seen) => Promise<void>,
): Promise<void> => {
  const seen: Seen = {
    events: [],
    sent: [],
    appraised: 0,
    collateral: good,
    snapshot: snapshotOf("a"),
    busy: false,
    broken: false,
    beacon: undefined,
    beacons: new Map(),
  }
  const bus = {
    event: (draft: EventDraft) => Effect.sync(() => void seen.events.push(draft)),
    publish: (name: string, tokens: object, value: Signed) =>
      Effect.sync(() => {
        expect([name, tokens]).toEqual(["withdraw", { instance: "v1" }])
        seen.sent.push(value)
      }),
  } as unknown as BusShape
  const run = Effect.scoped(
    Effect.gen(function* () {
      const withdrawals = yield* makeWithdrawals({
        crypto,
        key: verifierKey,
        domain: "lab",
        instance: "v1",
        appraise: (evidence, asked) =>
          Effect.suspend(() => {
            seen.appraised++
            if (seen.broken) throw new Error("a defect")
            return seen.busy
              ? Effect.fail(new Refused({ code: "BUSY", field: "", message: "" }))
              : Effect.succeed(judge(evidence, asked, seen.collateral))
          }),
        snapshot: () => seen.snapshot,
        beacon: ({ releaser }) => (releaser === undefined ? seen.beacon : seen.beacons.get(releaser)),
      })
      yield* Effect.promise(() => play(withdrawals, seen))
    }),
  )
  return Effect.runPromise(run.pipe(Effect.provideService(Bus, bus), Effect.provide(Logger.layer([]))))
}

const until = async (what: string, look: () => boolean, ms = 20_000): Promise<void> => {
  for (const end = performance.now() + ms; !look(); ) {
    if (performance.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
/** As if that had happened so long before. */
const ago = (ms: number, run: () => void): void => {
  const earlier = performance.now() - ms
  const clock = vi.spyOn(performance, "now").mockImplementation(() => earlier)
  run()
  clock.mockRestore()
}
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const said = (signed: Signed | undefined): Withdrawal => {
  if (signed === undefined) throw new Error("nothing was said")
  const body = verify(crypto, labels.signedWithdrawal, [verifierKey.publicKey], signed)
  const found = decode(Withdrawal, body, { subject: "withdrawal" })
  if (!found.ok) throw new Error(found.error.message)
  return found.value
}

describe("news of collateral", () => {
  it(
    "takes back every result of the node that may be in use, signed, with an event that has the failed check",
    () =>
      during(async (withdrawals, seen) => {
        // No request is granted on this one any more, but a lease may last that was granted just before.
        ago(limits.resultMs + limits.leaseMsMax - 30_000, () => withdrawals.keep(accepted(3, 0x11)))
        withdrawals.keep(accepted(4, 0x12))
        await pause(600)
        expect([seen.appraised, seen.sent.length]).toEqual([0, 0])
        seen.collateral = revoking
        seen.snapshot = snapshotOf("b")
        await until("a withdrawal", () => seen.sent.length > 0)
        const withdrawal = said(seen.sent[0])
        expect(withdrawal).toMatchObject({
          domain: "lab",
          workflow: workflow.digest,
          verifier: "v1",
          sequence: 1n,
        })
        expect(
          withdrawal.results.map(({ node, session, result, field }) => [
            node,
            session[0],
            result?.[0],
            field,
          ]),
        ).toEqual([
          ["n1", 4, 0x12, "genuine"],
          ["n1", 3, 0x11, "genuine"],
        ])
        expect(seen.events).toHaveLength(1)
        expect(seen.events[0]).toMatchObject({
          type: "vouchsafe.attestation.withdrawn",
          subject: "n1",
          data: { node: "n1", stage: "source", field: "genuine", code: withdrawal.results[0]?.code },
        })
        expect(seen.events[0]?.data.checks?.find(({ result }) => result === "failed")?.name).toBe("genuine")
        // The bus may have lost it.
        await until("it again", () => seen.sent.length > 1)
        expect(said(seen.sent[1])).toEqual({ ...withdrawal, sequence: 2n })
        expect(seen.events).toHaveLength(1)
      }),
    60_000,
  )

  it(
    "that isn't any changes nothing",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        seen.snapshot = snapshotOf("a")
        await pause(600)
        expect(seen.appraised).toBe(0)
        seen.snapshot = snapshotOf("b")
        await until("another look", () => seen.appraised === 1)
        await pause(600)
        expect([seen.appraised, seen.sent.length, seen.events.length]).toEqual([1, 0, 0])
      }),
    60_000,
  )

  it(
    "is not missed for a defect",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        seen.broken = true
        seen.collateral = revoking
        seen.snapshot = snapshotOf("b")
        await until("a second try", () => seen.appraised > 1)
        seen.broken = false
        await until("a withdrawal", () => seen.sent.length > 0)
      }),
    60_000,
  )

  it(
    "waits for its turn when there is no time for it",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        seen.busy = true
        seen.collateral = revoking
        seen.snapshot = snapshotOf("b")
        await until("a first try", () => seen.appraised > 1)
        expect(seen.sent).toEqual([])
        seen.busy = false
        await until("a withdrawal", () => seen.sent.length > 0)
      }),
    60_000,
  )
})

describe("Evidence that is refused", () => {
  const other = { dataplane: filled(48, 0xee) }
  it(
    "takes back what was accepted before, when hardware says that it is the node's own",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        const asked = askedFor(4)
        await Effect.runPromise(withdrawals.refused(asked, refused(judge(answer(asked, other), asked))))
        expect(said(seen.sent[0]).results).toMatchObject([
          { node: "n1", code: "DATAPLANE", field: "dataplane" },
        ])
        expect(seen.events[0]?.type).toBe("vouchsafe.attestation.withdrawn")
        await Effect.runPromise(withdrawals.refused(asked, refused(judge(answer(asked, other), asked))))
        expect(seen.sent).toHaveLength(1)
      }),
    60_000,
  )

  it(
    "adds to what is said again of the node, which may have been lost",
    () =>
      during(async (withdrawals, seen) => {
        for (const [session, digest] of [
          [3, 0x11],
          [5, 0x12],
        ] as const) {
          withdrawals.keep(accepted(session, digest))
          const asked = askedFor(session + 1)
          await Effect.runPromise(withdrawals.refused(asked, refused(judge(answer(asked, other), asked))))
        }
        const before = seen.sent.length
        await until("all again", () => seen.sent.length > before)
        expect(said(seen.sent.at(-1)).results.map(({ result }) => result?.[0])).toEqual([0x11, 0x12])
      }),
    60_000,
  )

  it(
    "is told of a node that nothing was signed for here, for as long as the beacon of that moment counts",
    () =>
      during(async (withdrawals, seen) => {
        const asked = askedFor(4)
        const verdict = refused(judge(answer(asked, other), asked))
        // Without a beacon there is nothing that it could be told by.
        await Effect.runPromise(withdrawals.refused(asked, verdict))
        expect(seen.sent).toEqual([])
        seen.beacon = filled(32, 0xbe)
        await Effect.runPromise(withdrawals.refused(asked, verdict))
        const { workflow: digest, results } = said(seen.sent[0])
        expect(digest).toEqual(workflow.digest)
        expect(results).toMatchObject([
          { node: "n1", session: asked.session, code: "DATAPLANE", field: "dataplane", beacon: seen.beacon },
        ])
        expect(results[0]).not.toHaveProperty("result")
        // Said again as it was: not under what is the newest beacon then.
        const first = seen.beacon
        seen.beacon = filled(32, 0xbf)
        const before = seen.sent.length
        await until("it again", () => seen.sent.length > before)
        expect(said(seen.sent.at(-1)).results.map(({ beacon }) => beacon)).toEqual([first])
        // Twice refused is once said.
        await Effect.runPromise(withdrawals.refused(asked, verdict))
        const then = seen.sent.length
        await until("it again", () => seen.sent.length > then)
        expect(said(seen.sent.at(-1)).results.map(({ beacon }) => beacon)).toEqual([seen.beacon])
      }),
    60_000,
  )

  it(
    "names the beacon of that moment also for what was signed here; none where this verifier lacks something",
    () =>
      during(async (withdrawals, seen) => {
        seen.beacon = filled(32, 0xbe)
        withdrawals.keep(accepted(3, 0x11))
        const asked = askedFor(4)
        const verdict = refused(judge(answer(asked, other), asked))
        await Effect.runPromise(withdrawals.refused(asked, verdict))
        expect(said(seen.sent[0]).results).toMatchObject([
          { result: filled(32, 0x11), beacon: seen.beacon, code: "DATAPLANE" },
        ])
        const lacks = { ...verdict, code: "COLLATERAL_EXPIRED" }
        await Effect.runPromise(withdrawals.refused(askedFor(5), lacks))
        expect(seen.sent).toHaveLength(1)
      }),
    60_000,
  )

  it(
    "names the beacon of the releaser whose offer the refused Evidence answers",
    () =>
      during(async (withdrawals, seen) => {
        seen.beacons.set("r1", filled(32, 0xb1)).set("r2", filled(32, 0xb2))
        const first = accepted(3, 0x11)
        withdrawals.keep({ ...first, asked: { ...first.asked, releaser: "r1" } })
        const asked = { ...askedFor(4), releaser: "r2" }
        await Effect.runPromise(withdrawals.refused(asked, refused(judge(answer(asked, other), asked))))
        expect(said(seen.sent[0]).results).toMatchObject([
          { result: filled(32, 0x11), beacon: filled(32, 0xb2) },
        ])
        await Effect.runPromise(
          withdrawals.refused({ ...asked, releaser: "r1" }, refused(judge(answer(asked, other), asked))),
        )
        expect(said(seen.sent[1]).results).toMatchObject([{ beacon: filled(32, 0xb1) }])
      }),
    60_000,
  )

  it("nothing is taken back for a part that the bus can take away", () => {
    const asked = askedFor(4)
    const verdict = refused(judge(answer(asked, other), asked))
    expect(speaksOfNode(verdict)).toBe(true)
    for (const name of ["platform", "secure-boot", "tpm-secure-boot", "tpm-images"]) {
      const checks = verdict.checks.filter((check) => check.name !== name)
      const failed = { name, result: "failed", found: "no event log", wanted: "one" } as const
      expect(speaksOfNode({ ...verdict, checks: [...checks, failed] }), name).toBe(false)
    }
  })

  it(
    "takes nothing back when anybody could have sent it; the node is looked at again",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        const asked = askedFor(4)
        const flipped = (e: NodeEvidence): NodeEvidence => ({
          ...e,
          evidence: {
            pieces: e.evidence.pieces.map((p) =>
              p.kind === "tdx" ? { ...p, quote: p.quote.map((b, i) => (i === 700 ? b ^ 1 : b)) } : p,
            ),
          },
        })
        const replayed = answer(askedFor(3))
        for (const evidence of [
          answer(asked, other, {}),
          answer(asked, { ...other, nonce: filled(32, 9) }),
          flipped(answer(asked, other)),
          replayed,
        ]) {
          const verdict = refused(judge(evidence, asked))
          expect(speaksOfNode(verdict)).toBe(false)
          await Effect.runPromise(withdrawals.refused(asked, verdict))
        }
        await until("another look", () => seen.appraised > 0)
        expect([seen.sent, seen.events]).toEqual([[], []])
      }),
    60_000,
  )
})

describe("another document", () => {
  it(
    "that wants something else is told for each node that won't meet it",
    () =>
      during(async (withdrawals, seen) => {
        withdrawals.keep(accepted(3, 0x11))
        await Effect.runPromise(withdrawals.changed(workflowWith({}, 0x44)))
        expect([seen.appraised, seen.sent.length, seen.events.length]).toEqual([1, 0, 0])
        await Effect.runPromise(withdrawals.changed(workflowWith({ mrtd: "11".repeat(48) }, 0x45)))
        expect(seen.events[0]).toMatchObject({ data: { node: "n1", code: "MRTD" } })
        // For a releaser that hasn't heard of it.
        expect(said(seen.sent[0]).workflow).toEqual(workflow.digest)
      }),
    60_000,
  )
})

describe("what is held", () => {
  it("is due once a minute, and at the times that its verdict names", () => {
    const held = new HeldResults()
    const given = accepted(3, 0x11, now)
    held.keep(given, 0)
    expect(held.due(REVIEW_MS - 1, now)).toEqual([])
    expect(held.due(REVIEW_MS, now)).toHaveLength(1)
    const ends = (given.verdict.appraisal?.collateral ?? []).map(({ expires }) => expires.getTime())
    expect(ends.length).toBeGreaterThan(2)
    const first = Math.min(...ends)
    expect(nextChange(workflow, given.verdict, now)).toBe(first)
    expect(held.due(1, new Date(first - 1))).toEqual([])
    expect(held.due(1, new Date(first))).toHaveLength(1)
  })

  it("is due when an accepted advisory isn't accepted any more", () => {
    const day = now.toISOString().slice(0, 10)
    const { verdict } = accepted(3, 0x11)
    expect(nextChange(workflowWith({ until: day }), verdict, now)).toBe(
      Date.parse(`${day}T00:00:00Z`) + 86_400_000,
    )
  })

  it("is due when a value of its stage isn't taken any more", () => {
    const { verdict } = accepted(3, 0x11)
    const { document } = workflow
    const { source } = document.stages
    if (source === undefined) throw new Error("no source")
    const end = new Date(now.getTime() + 60_000).toISOString().replace(/\.\d+Z$/, "Z")
    const stages = { source: { ...source, until: { ["00".repeat(48)]: end } } }
    const windowed = { ...workflow, document: { ...document, stages } }
    expect(nextChange(windowed, verdict, now)).toBe(Date.parse(end))
    expect(nextChange(windowed, verdict, new Date(end))).toBeGreaterThan(Date.parse(end))
  })

  it("is dropped when no lease can rest on it, and never more than nodes", () => {
    const held = new HeldResults()
    held.keep(accepted(3, 0x11), 0)
    const given = accepted(3, 0x11)
    for (let i = 0; i < limits.nodes; i++)
      held.keep({ ...given, asked: { ...given.asked, nodeId: `m${i}` } }, 1)
    expect([held.size, held.get("n1")]).toEqual([limits.nodes, undefined])
    held.due(limits.resultMs + limits.leaseMsMax, now)
    expect(held.size).toBe(limits.nodes)
    held.due(limits.resultMs + limits.leaseMsMax + 1, now)
    expect(held.size).toBe(0)
  })

  it("is every result that a lease can rest on: more than can be remembered aren't signed", () => {
    const held = new HeldResults()
    const given = accepted(3, 0x11)
    for (let i = 0; i < RESULTS_MOST; i++) {
      expect(held.full("n1", given.asked.workflow, i)).toBe(false)
      held.keep({ ...given, digest: filled(32, i) }, i)
    }
    expect(held.get("n1")?.results.map(({ digest }) => digest[0])).toEqual(
      Array.from({ length: RESULTS_MOST }, (_, i) => RESULTS_MOST - 1 - i),
    )
    const kept = limits.resultMs + limits.leaseMsMax
    expect(held.full("n1", given.asked.workflow, kept - 1)).toBe(true)
    expect(held.full("n1", given.asked.workflow, kept)).toBe(false)
    expect(held.full("n2", given.asked.workflow, 1)).toBe(false)
    expect(held.full("n1", workflowWith({}, 0x44), 1)).toBe(false)
  })

  it("names collateral by its content", () => {
    expect(contentOf(snapshotOf("a"))).toBe(contentOf(snapshotOf("a")))
    expect(contentOf(snapshotOf("a"))).not.toBe(contentOf(snapshotOf("b")))
  })
})
