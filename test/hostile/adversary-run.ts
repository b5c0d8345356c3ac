/**
 * Simulated runs of whole domains under attack. By itself:
 * `node --import ./test/hostile/adversary-hooks.ts test/hostile/adversary-run.ts --from 1 --to 2000`, one JSON line at the
 * end; with `--trace` also what the adversary did.
 */
import { parseArgs } from "node:util"
import { Adversary } from "./adversary.ts"
import type { Sent } from "./adversary-bus.ts"
import { createDomain, type Domain, LEASE_MS } from "./adversary-domain.ts"
import { sceneOf } from "./adversary-scene.ts"
import { free, realMs } from "./adversary-virtual.ts"
import { type Broken, World } from "./adversary-world.ts"

/**
 * The default lease is renewed this often: nothing takes longer to be as it should be when nobody keeps it from being so. Nor
 * where nodes appraise each other: a node that was asked for younger Evidence in others' names, for as long as an adversary
 * is here, follows an honest asking 2 s later at the most, and what it shows then ends the releaser's pause.
 */
export const WHOLE_WITHIN_MS = 10_000
/** Of a domain whose nodes appraise each other: their proofs are part of what can be said elsewhere. */
const FOREIGN_SEED = 999_982

export interface Outcome {
  readonly seed: number
  readonly broken: Broken | undefined
  readonly deeds: ReadonlyMap<number, string>
  readonly messages: number
  /** Releases that nodes got and that name what they say. */
  readonly named: number
  /** How long after the adversary's end it took until all was whole. */
  readonly wholeMs: number
  /** Keys that a node took with somebody else than its peer, believing a control plane that lies. */
  readonly deceived: number
  readonly history: ReadonlyArray<Sent>
  readonly log: ReadonlyArray<string>
}

const runOnce = async (
  domain: Domain,
  seed: number,
  {
    muted = new Set(),
    corpus = [],
    calm = false,
  }: { muted?: ReadonlySet<number>; corpus?: ReadonlyArray<Sent>; calm?: boolean } = {},
): Promise<Outcome> => {
  const scene = sceneOf(seed)
  const world = new World(domain, seed, scene, (sent) => adversary.route(sent))
  const adversary = new Adversary(world, seed, muted, corpus)
  if (calm) adversary.hostile = false
  await world.start()
  await adversary.plot(scene.hostileMs)
  adversary.hostile = false
  await world.withdraw()
  const ended = world.time.nowMs
  let checkMs = 0
  while (world.broken === undefined && world.time.nowMs - ended < WHOLE_WITHIN_MS) {
    await world.time.step(ended + WHOLE_WITHIN_MS)
    if (world.time.nowMs < checkMs) continue
    checkMs = world.time.nowMs + 20
    world.check()
    if (world.whole()) break
  }
  const wholeMs = world.time.nowMs - ended
  if (world.broken === undefined && !world.whole())
    world.accuse("whole again when the adversary is gone", `not after ${wholeMs} ms`)
  world.stop()
  free()
  const { broken, deceived, log } = world
  const { messages, named, history } = world.witness
  return { seed, broken, deeds: adversary.deeds, messages, named, wholeMs, deceived, history, log }
}

/** Leaves out what the rule's break doesn't need: halves first, then single deeds. */
const shrink = async (
  domain: Domain,
  found: Outcome,
  corpus: ReadonlyArray<Sent>,
  most = 150,
): Promise<{ outcome: Outcome; muted: ReadonlySet<number>; runs: number }> => {
  const rule = found.broken?.rule
  let muted: ReadonlySet<number> = new Set()
  let best = found
  let runs = 0
  for (let size = best.deeds.size; size >= 1; size = Math.floor(size / 2)) {
    for (let progress = true; progress && runs < most; ) {
      progress = false
      const deeds = [...best.deeds.keys()]
      for (let i = 0; i < deeds.length && runs < most; i += size) {
        const without = new Set([...muted, ...deeds.slice(i, i + size)])
        const outcome = await runOnce(domain, found.seed, { muted: without, corpus })
        runs += 1
        if (outcome.broken?.rule !== rule || outcome.deeds.size >= best.deeds.size) continue
        muted = without
        best = outcome
        progress = true
        break
      }
    }
  }
  return { outcome: best, muted, runs }
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      from: { type: "string", default: "1" },
      to: { type: "string", default: "100" },
      trace: { type: "boolean", default: false },
      /** Doesn't make a failure small. */
      raw: { type: "boolean", default: false },
      /** Only every so manyth seed; and on after a failure, as it was found. */
      step: { type: "string", default: "1" },
      "go-on": { type: "boolean", default: false },
      "budget-s": { type: "string", default: "3600" },
    },
  })
  const domain = createDomain("lab")
  // What another domain has said, of other keys: part of what the adversary may say here.
  const foreign = createDomain("other")
  const corpus = (await runOnce(foreign, FOREIGN_SEED, { calm: true })).history
  const began = realMs()
  let [runs, messages, named, deeds, deceived] = [0, 0, 0, 0, 0]
  const wholes: Array<readonly [ms: number, seed: number]> = []
  const rules: Record<string, number> = {}
  for (let seed = Number(values.from); seed <= Number(values.to); seed += Number(values.step)) {
    const outcome = await runOnce(domain, seed, { corpus })
    runs += 1
    messages += outcome.messages
    named += outcome.named
    deeds += outcome.deeds.size
    deceived += outcome.deceived
    wholes.push([Math.round(outcome.wholeMs), seed])
    for (const what of outcome.deeds.values()) {
      const [kind = ""] = what.split(" ")
      rules[kind] = (rules[kind] ?? 0) + 1
    }
    if (outcome.broken !== undefined && values["go-on"]) {
      process.stdout.write(`${JSON.stringify({ seed, broken: outcome.broken.message })}\n`)
      process.exitCode = 1
    } else if (outcome.broken !== undefined) {
      const small = await shrink(domain, outcome, corpus, values.raw ? 0 : 150)
      const failure = {
        seed,
        rule: small.outcome.broken?.rule,
        message: small.outcome.broken?.message,
        first: outcome.broken.message,
        deeds: [...small.outcome.deeds].map(([n, what]) => `${n}: ${what}`),
        shrunk_from: outcome.deeds.size,
        runs,
        ...(values.trace ? { log: small.outcome.log.slice(-20) } : {}),
      }
      process.stdout.write(`${JSON.stringify({ failure })}\n`)
      process.exitCode = 1
      return
    }
    if (realMs() - began > Number(values["budget-s"]) * 1_000) break
  }
  const seconds = (realMs() - began) / 1_000
  const { user, system } = process.cpuUsage()
  const cpu_s = (user + system) / 1e6
  wholes.sort(([a], [b]) => a - b)
  const [slowest = 0] = wholes.at(-1) ?? []
  const at = (share: number) => wholes[Math.floor((wholes.length - 1) * share)]?.[0] ?? 0
  const whole_ms = { half: at(0.5), nine_tenths: at(0.9), all_but_one_percent: at(0.99), slowest }
  const slow = values.trace ? { slow: wholes.slice(-12).map(([ms, seed]) => `${seed}: ${ms}`) } : {}
  const lease_ms = LEASE_MS
  process.stdout.write(
    `${JSON.stringify({ runs, messages, named, deeds, deceived, whole_ms, ...slow, seconds, cpu_s, kinds: rules, lease_ms })}\n`,
  )
}

if (import.meta.main) await main()
