/** Threads that appraise: the same verdicts, news of collateral taken up, bounded waiting, and nothing lost but the answer that ends one. */
import { Effect, Exit, Fiber, Result } from "effect"
import { afterEach, describe, expect, it } from "vitest"
import { AttestationResult, type NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Refused } from "../../services/common/bus/types.ts"
import { encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  type CollateralSnapshot,
  collateralViewOf,
  plainStaleRules,
} from "../../services/evidence/collateral/index.ts"
import { EvidenceCaches } from "../../services/evidence/index.ts"
import { packRecord } from "../../services/evidence/record/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../../services/guest/appraise-node.ts"
import { nodeRecord } from "../../services/guest/judge-record.ts"
import { AppraisalPool, type PoolOptions } from "../../services/verifier/pool.ts"
import { now } from "./evidence-support.ts"
import { answer, askedFor, filled, good, revoking, workflowWith } from "./verifier-support.ts"

/** As the cache would hold it. */
const snapshotOf = (collateral: typeof good): CollateralSnapshot => {
  const keys = {
    "intel-tcb-info-ee0000000001": collateral.tcbInfo,
    "intel-qe-identity": collateral.qeIdentity,
    "intel-root-crl": collateral.rootCrl,
    "intel-pck-crl-platform": collateral.pckCrl,
    "intel-pck-crl-processor": collateral.pckCrl,
    "intel-tcb-signing": collateral.tcbSigningChain,
  }
  const held = Object.entries(keys).map(([key, bytes]) => [
    key,
    { item: { key, kind: "intel-tcb-info", bytes, issued: now }, confirmed: now },
  ])
  return { held: new Map(held as never) }
}

let pool: AppraisalPool | undefined
afterEach(async () => {
  await pool?.close()
  pool = undefined
})

const open = (options: Partial<PoolOptions> = {}): AppraisalPool => {
  pool = new AppraisalPool({ threads: 1, instance: "v1", control: "cp", stale: plainStaleRules, ...options })
  return pool
}

const ask = (evidence: NodeEvidence, asked: Outstanding): Promise<Verdict | Refused> =>
  Effect.runPromise(
    Effect.result((pool as AppraisalPool).appraise(evidence, asked, now)).pipe(
      Effect.map((found) => (Result.isSuccess(found) ? found.success : found.failure)),
    ),
  )

const inLine = (evidence: NodeEvidence, asked: Outstanding, snapshot: CollateralSnapshot): Verdict =>
  appraiseNode(
    {
      crypto,
      instance: "v1",
      control: "cp",
      caches: new EvidenceCaches(),
      collateral: (at) => collateralViewOf(snapshot, at, plainStaleRules),
    },
    evidence,
    asked,
    now,
  )

const codeOf = (outcome: Verdict | Refused): string =>
  outcome instanceof Refused || !outcome.accepted ? outcome.code : "accepted"

describe("a verdict from a thread", () => {
  it("is that of the service's own thread, byte for byte", async () => {
    const snapshot = snapshotOf(good)
    open({ snapshot: () => snapshot })
    const asked = askedFor(3)
    const cases = [
      answer(asked),
      answer(asked, { dataplane: filled(48, 0xee) }),
      answer(asked, { nonce: filled(32, 9) }),
      { ...answer(asked), evidence: { pieces: [...fine.evidence.pieces, ...fine.evidence.pieces] } },
    ]
    const codes: string[] = []
    for (const evidence of cases) {
      const found = await ask(evidence, asked)
      if (found instanceof Refused) throw found
      const wanted = inLine(evidence, asked, snapshot)
      expect(found).toEqual(wanted)
      expect(packRecord(nodeRecord(found, evidence, asked, now))).toEqual(
        packRecord(nodeRecord(wanted, evidence, asked, now)),
      )
      if (found.accepted && wanted.accepted)
        expect(encode(AttestationResult, found.result)).toEqual(encode(AttestationResult, wanted.result))
      codes.push(codeOf(found))
    }
    expect(codes).toEqual(["accepted", "DATAPLANE", "NONCE", "PLATFORM"])
  }, 60_000)

  it("rests on the collateral and the document of now", async () => {
    let snapshot = snapshotOf(good)
    open({ snapshot: () => snapshot })
    const asked = askedFor(3)
    expect(codeOf(await ask(answer(asked), asked))).toBe("accepted")
    snapshot = snapshotOf(revoking)
    expect(codeOf(await ask(answer(asked), asked))).toBe("CERTIFICATE_REVOKED")
    snapshot = snapshotOf(good)
    const workflow = workflowWith({ mrtd: "11".repeat(48) })
    expect(codeOf(await ask(answer(asked), { ...asked, workflow }))).toBe("MRTD")
    expect(codeOf(await ask(answer(asked), asked))).toBe("accepted")
  }, 60_000)

  it("comes for each of many, over all threads", async () => {
    const snapshot = snapshotOf(good)
    open({ threads: 2, growMs: 0, snapshot: () => snapshot })
    const asked = askedFor(3)
    const evidence = answer(asked)
    for (let i = 0; i < 200 && (pool?.ready ?? 0) < 2; i++) {
      const found = await Promise.all(Array.from({ length: 50 }, () => ask(evidence, asked)))
      expect(new Set(found.map(codeOf))).toEqual(new Set(["accepted"]))
    }
    expect([pool?.waiting, pool?.ready]).toEqual([0, 2])
  }, 60_000)

  it("comes from one thread as long as that is enough", async () => {
    open({ threads: 2, script: script(""), growMs: 60_000 })
    const found = await Promise.all(Array.from({ length: 50 }, () => ask(fine, asked)))
    expect(new Set(found.map(codeOf))).toEqual(new Set(["JUDGED"]))
    expect(pool?.ready).toBe(1)
  }, 60_000)
})

/** What a thread does with an answer of "bad": the others get a verdict. */
const script = (onBad: string): URL =>
  new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { parentPort } from "node:worker_threads"
      parentPort.on("message", ({ id, evidence }) => {
        if (evidence.claims.node === "bad") { ${onBad} }
        parentPort.postMessage({ kind: "verdict", id, verdict: { accepted: false, code: "JUDGED" } })
      })
      parentPort.postMessage({ kind: "ready" })
    `)}`,
  )

const asked = askedFor(3)
const fine = answer(asked)
const bad = { ...fine, claims: { ...fine.claims, node: "bad" } }

describe("a thread that ends", () => {
  it.each([
    ["by a defect", `throw new Error("defect")`],
    ["by its own will", "process.exit(0)"],
    ["out of memory", "const all = []; for (;;) all.push(new Array(100_000).fill({}))"],
    ["because it takes too long", "for (;;);"],
  ])(
    "%s costs the answer that it was at, and no other",
    async (_, onBad) => {
      const ended: string[] = []
      open({ script: script(onBad), appraiseMs: 2_000, ended: (why) => ended.push(why) })
      expect(codeOf(await ask(fine, asked))).toBe("JUDGED")
      const [lost, ...others] = await Promise.all([ask(bad, asked), ask(fine, asked), ask(fine, asked)])
      expect(codeOf(lost as Verdict)).toBe("NOT_APPRAISED")
      expect(others.map(codeOf)).toEqual(["JUDGED", "JUDGED"])
      expect(ended).toHaveLength(1)
    },
    60_000,
  )
})

describe("what waits", () => {
  it("is bounded: more is refused at once", async () => {
    open({ script: script("return"), appraiseMs: 60_000, waitingMax: 3 })
    expect(codeOf(await ask(fine, asked))).toBe("JUDGED")
    // One is with the thread, three wait.
    const hanging = Array.from({ length: 4 }, () => ask(bad, asked))
    expect(pool?.waiting).toBe(3)
    expect(codeOf(await ask(fine, asked))).toBe("BUSY")
    await pool?.close()
    expect((await Promise.all(hanging)).map(codeOf)).toEqual(["NOT_APPRAISED", "BUSY", "BUSY", "BUSY"])
  }, 60_000)

  it("leaves when nobody waits for it any more", async () => {
    open({ script: script("return"), appraiseMs: 60_000 })
    const first = Effect.runFork((pool as AppraisalPool).appraise(bad, asked, now))
    const second = Effect.runFork((pool as AppraisalPool).appraise(bad, asked, now))
    expect(pool?.waiting).toBe(2)
    first.interruptUnsafe()
    second.interruptUnsafe()
    const exits = await Promise.all([first, second].map((one) => Effect.runPromise(Fiber.await(one))))
    expect(exits.every(Exit.isFailure)).toBe(true)
    expect(pool?.waiting).toBe(0)
  }, 60_000)
})
