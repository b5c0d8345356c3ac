/**
 * Which verifiers' results this releaser believes: those whose keys control planes' Evidence vouches for, over nonces of
 * the releaser's own, on hardware and with a configuration that its anchors name. Each guest vouches for its own verifier
 * only. Who says on the bus that it is there is asked for Evidence, some at a time; asked for anew from time to time.
 */
import { Effect, Fiber, Option } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { Presence } from "../../schemas/messages/release.ts"
import type { Bus } from "../common/bus/bus.ts"
import type { BusError, Refused } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { surviving } from "../common/process/defects.ts"
import { type ControlCheckOptions, controlCheck, controlTrust } from "../guest/control-check.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { acceptControl } from "../make/control-plane.ts"
import { MakeError } from "../make/errors.ts"
import { buildTree, helloLeaf } from "../make/merkle.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { nextStep } from "./in-step.ts"
import { VerifierTable } from "./verifier-table.ts"

const TIMEOUT_MS = 3_000
/** How long a request waits for that. */
const PATIENCE_MS = 250
/** How often it is looked whom to ask: while nobody is believed or somebody was just asked, and else. */
const LOOK_MS = 100
const CALM_MS = 250

export interface KnownVerifiersOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly instance: string
  readonly control: string
  /** This releaser's own public key: its own guest's Evidence must bind it. */
  readonly ownKey: Uint8Array
  readonly collateral?: ControlCheckOptions["collateral"]
  /** Other guests' verifiers have come or gone. */
  readonly changed?: (others: ReadonlyArray<Uint8Array>) => void
}

export const makeKnownVerifiers = (bus: Bus["Service"], options: KnownVerifiersOptions) => {
  const { crypto, trust, instance, control: ownControl } = options
  const table = new VerifierTable(ownControl)

  const ask = Effect.fnUntraced(function* (control: string, workflow: VerifiedWorkflow) {
    const nonce = crypto.randomBytes(32)
    const tree = buildTree(crypto, [helloLeaf("releaser", instance, nonce)])
    const reply = yield* bus
      .request(
        "attest",
        { node: control, identity: bus.identity.name },
        { v: 1, kind: "attest-control", merkle_root: tree.root, leaves: tree.size },
        { timeoutMs: TIMEOUT_MS },
      )
      .pipe(Effect.mapError((error: BusError) => refuse("NO_CONTROL_EVIDENCE", "control", error.message)))
    if (reply.kind === "refused") return yield* refuse(reply.code, "control", reply.message)
    if (reply.kind !== "control-evidence") return yield* refuse("WRONG_KIND", "control", reply.kind)
    return yield* attempt(() => {
      const accepted = acceptControl(
        crypto,
        reply,
        {
          ...controlTrust(crypto, trust, workflow),
          asker: { role: "releaser", id: instance, nonce },
          inclusion: tree.inclusion(0),
        },
        controlCheck(crypto, trust, () => new Date(), { collateral: options.collateral }),
      )
      if (control === ownControl && !crypto.equalConstantTime(accepted.releaserKey, options.ownKey))
        throw new MakeError("MISDIRECTED", "control.releaser_key", "is another releaser's")
      return accepted.verifierKey
    })
  })

  let told = ""
  const tell = (): void => {
    const others = table.others(performance.now()).slice(0, limits.otherVerifiers)
    const now = others.map((key) => Buffer.from(key).toString("hex")).join()
    if (now === told) return
    told = now
    options.changed?.(others)
  }

  /** Asks one guest and puts down what became of it. */
  const appraise = (control: string, workflow: VerifiedWorkflow): Effect.Effect<void, Refused> =>
    ask(control, workflow).pipe(
      Effect.tap((key) => Effect.sync(() => table.vouched(control, key, performance.now()))),
      // Also by a defect: else it would be asked again at once.
      Effect.tapCause(() => Effect.sync(() => table.refused(control, performance.now()))),
      Effect.andThen(Effect.sync(tell)),
    )

  const among = (wanted: Uint8Array) => {
    const keys = table.keys(performance.now())
    return keys.some((key) => crypto.equalConstantTime(key, wanted)) ? keys : undefined
  }

  /** The keys that may have signed results for this workflow; asks a control plane when `wanted` is none of them. */
  const keysFor = Effect.fnUntraced(function* (workflow: VerifiedWorkflow, wanted: Uint8Array) {
    table.during(workflow.digest)
    const known = among(wanted)
    if (known !== undefined) return known
    // A flood of results under unknown keys must not become a flood of quotes.
    const control = table.mayAsk(wanted, performance.now())
    if (control === undefined) return yield* refuse("NOT_VOUCHED", "result.key", "is no known verifier's")
    // All other nodes' requests wait behind this one, and anybody may name a key: what takes longer goes on by itself, and the
    // node asks again.
    const appraising = yield* Effect.forkDetach(appraise(control, workflow))
    const ended = yield* Fiber.await(appraising).pipe(Effect.timeoutOption(PATIENCE_MS))
    if (Option.isSome(ended)) yield* ended.value
    return among(wanted) ?? (yield* refuse("NOT_VOUCHED", "result.key", "is no known verifier's"))
  })

  return {
    keysFor,
    /** Whether results under this key would be believed now. Asks nobody. */
    believes: (workflow: VerifiedWorkflow, key: Uint8Array): boolean => {
      table.during(workflow.digest)
      return among(key) !== undefined
    },
    /** Somebody says that it is there. */
    seen: ({ role, control, key }: Presence): void => {
      if (role === "verifier") table.announced(control, key, performance.now())
    },
    /** Asks those who are due, for ever. */
    keep: (current: () => VerifiedWorkflow | undefined) =>
      Effect.suspend(() => {
        const workflow = current()
        if (workflow === undefined) return Effect.succeed(false)
        table.during(workflow.digest)
        tell()
        const nowMs = performance.now()
        const control = table.due(nowMs)
        if (control === undefined) return Effect.succeed(table.keys(nowMs).length > 0)
        return appraise(control, workflow).pipe(
          Effect.catch(({ code, field, message }) =>
            Effect.logWarning(`control plane ${control}: ${code} ${field}: ${message}`),
          ),
          Effect.as(false),
        )
      }).pipe(
        surviving("looking after verifiers"),
        Effect.flatMap((calm) => (calm === true ? nextStep(CALM_MS) : Effect.sleep(LOOK_MS))),
        Effect.forever,
      ),
    /** Whether this guest can prove itself: how often in a row it lately could not. */
    ownFailures: () => table.failuresOf(ownControl),
  }
}
