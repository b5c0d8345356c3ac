/** What changes while an answer is under way: nothing is vouched for that could not be taken back, or by a document of before. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Logger } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { stringify } from "yaml"
import {
  Challenge,
  type NodeEvidence,
  NodeEvidence as NodeEvidenceSchema,
} from "../../schemas/messages/attestation.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus, type BusShape, Refused } from "../../services/common/bus/bus.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import { readVerifierKey } from "../../services/common/config/guest-keys.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { EvidenceCaches } from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding } from "../../services/guest/appraise-node.ts"
import { controlEvidenceDigest } from "../../services/make/control-plane.ts"
import { resultDigest } from "../../services/make/result.ts"
import { workflowSigningBytes } from "../../services/make/workflow-document.ts"
import { serveVerifier, type VerifierOptions } from "../../services/verifier/service.ts"
import { askedOf } from "../support/node-evidence.ts"
import { now } from "./evidence-support.ts"
import { answer, filled, good, revoking, workflowWith } from "./verifier-support.ts"

const operator = crypto.ed25519.generate()
const trust = {
  domain: "lab",
  operatorKeys: [operator.publicKey],
  threshold: 1,
  controlPlane: { roots: [], assurance: "hardware" as const, platforms: [], chips: "any" as const },
}
const SESSION = filled(16, 3)
const NONCE = filled(32, 5)
const TERM = 7n

/** Two stages whose nodes appraise each other: what is accepted is stored for the peer before it is handed out. */
const signedDocument = (version: number): SignedWorkflow => {
  const { document } = workflowWith()
  const { source } = document.stages
  const other = {
    ...document.nodes[0],
    id: "n2",
    stage: "sink",
    chip: "any",
    address: "10.77.0.2",
    wire: "10.99.0.12",
  }
  const bytes = new TextEncoder().encode(
    stringify(
      {
        ...document,
        version,
        peers: "evidence",
        stages: { source, sink: source },
        nodes: [...document.nodes, other],
        edges: [{ id: "e", from: "source", to: "sink", protocol: "tcp", port: 5000, lanes: 1 }],
      },
      { aliasDuplicateObjects: false },
    ),
  )
  const signature = crypto.ed25519.sign(workflowSigningBytes(bytes), operator)
  return { v: 1, document: bytes, signatures: [{ key: operator.publicKey, signature }] }
}

type Handler = (value: unknown, from: unknown) => Effect.Effect<unknown, unknown>

let runDirectory: string
beforeEach(() => {
  runDirectory = mkdtempSync(join(tmpdir(), "verifier-"))
})
afterEach(() => rmSync(runDirectory, { recursive: true, force: true }))

interface Play {
  /** What an answer to a fresh challenge of n1 would be. */
  readonly prepared: () => Promise<NodeEvidence>
  readonly submit: (evidence: NodeEvidence) => Promise<unknown>
  readonly publish: (document: SignedWorkflow) => Promise<void>
  readonly withdrawn: Withdrawal[]
  /** Of each subject that is listened to. */
  readonly paces: ReadonlyMap<string, unknown>
  collateral: typeof good
  snapshot: object
}

/** A verifier over a bus of functions; storing for peers takes as long as the verifier lets it. */
const during = (play: (at: Play) => Promise<void>): Promise<void> => {
  const handlers = new Map<string, Handler>()
  let told: (value: SignedWorkflow) => Effect.Effect<unknown, unknown> = () => Effect.void
  const withdrawn: Withdrawal[] = []
  const paces = new Map<string, object | undefined>()
  const put = (name: string, _: object, handler: Handler, options?: { pace?: object }) =>
    Effect.sync(() => {
      handlers.set(name, handler)
      paces.set(name, options?.pace)
    })
  const bus = {
    identity: { role: "verifier", instance: "v1", name: "verifier-v1" },
    subscribe: put,
    serve: put,
    serveUnread: put,
    event: () => Effect.void,
    publish: (name: string, _: object, value: { body: Uint8Array }) =>
      Effect.sync(() => {
        if (name !== "withdraw") return
        const found = decode(Withdrawal, value.body, { subject: "withdrawal" })
        if (found.ok) withdrawn.push(found.value)
      }),
    request: (_: string, __: object, { merkle_root, leaves }: { merkle_root: Uint8Array; leaves: number }) =>
      Effect.sync(() => ({
        v: 1,
        kind: "control-evidence",
        control: "cp",
        claims: {
          domain: "lab",
          operators: filled(32, 1),
          roots: filled(32, 2),
          workflow: filled(32, 3),
          verifier_key: readVerifierKey(runDirectory).key,
          verifiers: [],
          releaser_key: filled(32, 4),
          term: TERM,
          merkle_root,
          leaves,
        },
        evidence: { pieces: [{ kind: "nitro", document: filled(8, 1) }] },
      })),
    workflows: {
      get: () => Effect.succeed(undefined),
      watch: (_: string, handler: typeof told) =>
        Effect.suspend(() => {
          told = handler
          return handler(signedDocument(1))
        }),
    },
    proofs: { put: () => Effect.never },
    closed: Effect.never,
  } as unknown as BusShape

  const from = { tokens: { node: "n1", instance: "r1" }, sender: "loader-n1" }
  const ask = (name: string, value: unknown): Promise<unknown> => {
    const handler = handlers.get(name)
    if (handler === undefined) throw new Error(`nobody serves ${name}`)
    return Effect.runPromise(handler(value, from).pipe(Effect.catch((no) => Effect.succeed(no))))
  }
  const at: Play = {
    collateral: good,
    snapshot: { held: new Map() },
    withdrawn,
    paces,
    publish: (document) => Effect.runPromise(told(document).pipe(Effect.ignore, Effect.asVoid)),
    prepared: async () => {
      const hello = { v: 1, domain: "lab", node: "n1", session: SESSION, nonce: NONCE, term: 0n }
      const offer = (await ask("hello", hello)) as { control: never; challenge: { body: Uint8Array } }
      const found = decode(Challenge, offer.challenge.body, { subject: "challenge" })
      if (!found.ok) throw found.error
      const { verifier_nonce: verifierNonce, beacon, workflow: digest } = found.value
      const controlDigest = controlEvidenceDigest(crypto, offer.control)
      const workflow = { ...workflowWith(), digest }
      const fixed = { session: SESSION, nonce: NONCE, verifierNonce, beacon, controlDigest }
      return answer(askedOf(workflow, fixed))
    },
    submit: (evidence) =>
      ask("evidence", { bytes: encode(NodeEvidenceSchema, evidence), read: Effect.succeed(evidence) }),
  }
  const appraise: VerifierOptions["appraise"] = (evidence, asked: Outstanding) =>
    Effect.sync(() =>
      appraiseNode(
        {
          crypto,
          instance: "v1",
          control: "cp",
          caches: new EvidenceCaches(),
          collateral: () => ({ snp: () => ({}), tdx: () => at.collateral }),
        },
        evidence,
        asked,
        now,
      ),
    )
  const options = { crypto, trust, instance: "v1", control: "cp", runDirectory, appraise }
  const snapshot = () => at.snapshot as never
  const run = Effect.scoped(
    Effect.gen(function* () {
      yield* Effect.forkScoped(serveVerifier({ ...options, snapshot }))
      while (!handlers.has("evidence")) yield* Effect.sleep("10 millis")
      const beacon = { v: 1, releaser: "r1", control: "cp", term: TERM, nonce: filled(32, 2) }
      yield* Effect.promise(() => ask("beacon", beacon))
      yield* Effect.promise(() => play(at))
    }),
  )
  return Effect.runPromise(run.pipe(Effect.provideService(Bus, bus), Effect.provide(Logger.layer([]))))
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

describe("while an answer is under way", () => {
  it(
    "another document comes into force: nothing is vouched for by the one before",
    () =>
      during(async (at) => {
        expect(await at.submit(await at.prepared())).toMatchObject({ kind: "result" })
        const evidence = await at.prepared()
        await at.publish(signedDocument(2))
        const reply = await at.submit(evidence)
        expect(reply).toBeInstanceOf(Refused)
        expect(reply).toMatchObject({ field: "workflow" })
      }),
    30_000,
  )

  it(
    "collateral condemns the machine: the result that waits is taken back",
    () =>
      during(async (at) => {
        const waiting = at.submit(await at.prepared())
        await pause(50)
        at.collateral = revoking
        at.snapshot = { held: new Map([["intel-pck-crl", { item: { sha256: "b" } }]]) }
        const { result } = (await waiting) as { result: { body: Uint8Array } }
        const digest = resultDigest(crypto, result.body)
        const isNamed = () =>
          at.withdrawn.some(({ results }) =>
            results.some((one) => one.result && Buffer.compare(one.result, digest) === 0),
          )
        // Without news it would be looked at in a minute.
        for (let i = 0; i < 200 && !isNamed(); i++) await pause(50)
        expect(isNamed()).toBe(true)
      }),
    30_000,
  )
})

it("a verifier listens to no sender faster than it has use for", () =>
  during(async ({ paces }) => {
    expect([...paces.keys()].sort()).toEqual(["beacon", "evidence", "fresh", "hello"])
    for (const [name, pace] of paces) expect(pace, name).toBeDefined()
  }))
