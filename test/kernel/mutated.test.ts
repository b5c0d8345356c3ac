/**
 * Mutated frames through the sealer and the opener. What may pass is said by test/kernel/oracle.ts; what does pass is compared with
 * what another implementation of the cipher makes of it, byte for byte; and every frame is one verdict.
 *
 * The environment variable FRAMES says how many, if not a million.
 */
import { afterAll, describe, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import {
  answerTo,
  chance,
  ecnOf,
  frameOf,
  isTooShort,
  opening,
  others,
  outer,
  readText,
  sameInner,
  withTrailer,
} from "./conversation.ts"
import { Mutator } from "./mutate.ts"
import { type Allowed, espIn, innerOf, isForStack, judgeInner, readPacket } from "./oracle.ts"
import { esp, sealText, udpPacket } from "./packets.ts"
import {
  DROP,
  type EdgeKeys,
  edge1,
  edge2,
  edge3,
  MARK,
  MTU,
  own,
  PASS,
  PEER_PORT,
  type Plane,
  peer,
  REDIRECT,
} from "./plane.ts"
import { type Family, families, readyPlane6 } from "./plane6.ts"
import { TestRunner } from "./test-runner.ts"

const TOTAL = Number(process.env.FRAMES ?? 1_000_000)
/** Of one generation: new authentic frames, what is made of them, authentic frames with hostile contents, the application's. */
const GENERATION = { fresh: 192, arriving: 2000, hostile: 200, leaving: 2000 } as const
const LONGEST = 2100

const mutator = new Mutator(chance, LONGEST)
const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")
/** An authentic frame: what it carries and what must become of it. */
interface Sent {
  readonly frame: Uint8Array
  readonly inner: Uint8Array
  readonly edge: number
  readonly allowed: Allowed | undefined
  seen: boolean
}

class Run {
  readonly plane: Plane
  readonly #family: Family
  readonly #seal: TestRunner
  readonly #open: TestRunner
  readonly #next = new Map<number, bigint>([
    [1, 1n],
    [2, 1n],
    [3, 1n],
  ])
  readonly #sealed = new Map<number, bigint>()
  readonly #flows = { 1: new Set<string>(), 2: new Set<string>() }
  /** By what ESP has of them, the only bytes that are authenticated. */
  #sent = new Map<string, Sent>()
  readonly tally = {
    frames: 0,
    sealed: 0,
    opened: 0,
    stack: 0,
    notices: 0,
    answers: 0,
    errors: 0,
    consumed: 0,
  }

  constructor(family: Family) {
    this.#family = family
    this.plane = readyPlane6(family)
    this.#seal = new TestRunner(this.plane.object.programFd("vs_seal"))
    this.#open = new TestRunner(this.plane.object.programFd("vs_open"))
  }

  generation(): void {
    this.plane.forget()
    for (const flows of [this.#flows[1], this.#flows[2]]) flows.clear()
    const opened: Uint8Array[] = []
    for (let i = 0; i < 32; i++) {
      opened.push(opening("out"))
      this.#leave(frameOf(opened[i] ?? new Uint8Array(0)), true)
    }
    this.#sent = new Map()
    const fresh = Array.from({ length: GENERATION.fresh }, (_, i) => {
      if (i % 8 === 0) return this.#send(edge1, withTrailer(answerTo(opened[i % 32] ?? opening("out"))))
      return this.#send(i % 16 === 1 ? edge3 : edge2, withTrailer(opening("in")))
    })
    const pick = <A>(of: ReadonlyArray<A>): A => of[chance.upTo(of.length)] as A
    for (let i = 0; i < GENERATION.arriving; i++)
      this.#arrive(
        mutator.mutate(chance.upTo(12) === 0 ? pick(others) : pick(fresh).frame, pick(fresh).frame),
      )
    for (let i = 0; i < GENERATION.hostile; i++) {
      const base = withTrailer(chance.upTo(4) === 0 ? answerTo(pick(opened)) : opening("in"))
      const text = mutator.mutate(base, pick(opened))
      const keys = pick([edge1, edge2, edge2, edge3])
      const sent = this.#send(keys, text.slice(0, text.length - (text.length % 4)))
      this.#arrive(sent.frame)
    }
    for (const again of [false, true])
      for (const sent of fresh) {
        const passed = this.#arrive(sent.frame)
        if (again) expect(passed, "a frame that came twice").toBe(false)
      }
    // Around the longest that a wire of 1,500 bytes has room for.
    const longest = this.#family === 4 ? 1410 : 1390
    const long = [-1, 0, 1, 2].map((more) =>
      frameOf(udpPacket({ source: own, target: peer, from: 1, to: PEER_PORT }, chance.bytes(longest + more))),
    )
    const incoming = fresh.filter(({ seen, edge }) => seen && edge === 2)
    for (let i = 0; i < GENERATION.leaving; i++) {
      const base =
        i % 50 === 0 ? pick(long) : frameOf(i % 5 === 0 ? answerTo(pick(incoming).inner) : opening("out"))
      this.#leave(mutator.mutate(base, pick(fresh).frame), false)
    }
  }

  #send(by: EdgeKeys, text: Uint8Array): Sent {
    const sequence = this.#next.get(by.edge) ?? 0n
    this.#next.set(by.edge, sequence + 1n)
    const payload = sealText(by.in, sequence, text)
    const inner = readText(text)
    const packet = inner === undefined ? undefined : readPacket(inner, 0, (inner[0] ?? 0) >> 4 === 6 ? 6 : 4)
    const sent = {
      frame: outer(payload),
      inner: inner ?? new Uint8Array(0),
      edge: by.edge,
      allowed: inner === undefined || packet === undefined ? undefined : judgeInner(inner, packet, "in"),
      seen: false,
    }
    this.#sent.set(latin1(payload), sent)
    return sent
  }

  /** Whether an authentic packet must pass, may, or must not; a flow that it opens is noted. */
  #judge({ allowed, edge }: Sent): "must" | "may" | "never" {
    if (allowed === undefined || (edge !== 1 && edge !== 2)) return "never"
    if (allowed.as === "opens" && edge === 2) return "must"
    if (allowed.as === "error") return this.#flows[edge].has(allowed.flow) ? "may" : "never"
    return allowed.as === "answers" && edge === 1 && this.#flows[1].has(allowed.flow) ? "may" : "never"
  }

  /** Runs the opener on a frame and holds what it does against the oracle. Gives whether the packet was opened. */
  #arrive(packet: Uint8Array): boolean {
    if (isTooShort(packet)) return false
    this.tally.frames += 1
    const retval = this.#open.run(packet)
    const at = espIn(packet)
    const sent = at === undefined ? undefined : this.#sent.get(latin1(packet.subarray(at.from, at.to)))
    const isNew = sent !== undefined && !sent.seen
    const judged = isNew ? this.#judge(sent) : "never"
    const lost = isNew && at?.ecn === 3 && ecnOf(sent.inner) === 0
    if (isNew) sent.seen = true
    // Also one that is dropped for its congestion mark has opened its flow: it was authentic and allowed.
    if (judged === "must" && sent?.allowed !== undefined) this.#flows[2].add(sent.allowed.flow)
    const passed = retval === REDIRECT
    const wrong = (why: string): Error =>
      new Error(`${why}: retval ${retval}, judged ${judged}, frame ${Buffer.from(packet).toString("hex")}`)
    if (passed && (judged === "never" || lost)) throw wrong("passed, and must not")
    if (!passed && judged === "must" && !lost) throw wrong("dropped, and must pass")
    if (retval === PASS) {
      if (!isForStack(packet)) throw wrong("went to the node's own stack")
      this.tally.stack += 1
    } else if (!passed && (retval !== DROP || isForStack(packet)))
      throw wrong("neither passed nor is what may be dropped")
    if (!passed) {
      if (isNew) this.tally.consumed += 1
      return false
    }
    this.tally.opened += 1
    const { allowed } = sent as Sent
    if (allowed?.as === "answers") this.tally.answers += 1
    else if (allowed?.as === "error") this.tally.errors += 1
    if (this.#open.mark !== MARK) throw wrong("is not marked as the opener's")
    if (!sameInner(this.#open.packet, sent?.inner ?? packet, at?.ecn ?? 0))
      throw wrong("is not what was sent")
    return true
  }

  /** The same for the sealer. */
  #leave(packet: Uint8Array, mustPass: boolean): void {
    if (isTooShort(packet)) return
    this.tally.frames += 1
    const retval = this.#seal.run(packet)
    const ip = innerOf(packet)
    const allowed = ip === undefined ? undefined : judgeInner(packet, ip, "out")
    const length = ip === undefined ? 0 : ip.end - ip.start
    const before = this.#family === 4 ? 44 : 64
    const fits = before + Math.ceil((length + 2) / 4) * 4 + 16 <= MTU
    const wrong = (why: string): Error =>
      new Error(`${why}: retval ${retval}, frame ${Buffer.from(packet).toString("hex")}`)
    if (retval === REDIRECT && this.#seal.mark === ~MARK >>> 0) {
      if (fits || allowed === undefined) throw wrong("told to be too long")
      this.tally.notices += 1
      return
    }
    if (retval !== REDIRECT) {
      if (retval !== DROP) throw wrong("left as it was")
      if (mustPass || (allowed?.as === "opens" && fits)) throw wrong("dropped, and must pass")
      return
    }
    if (ip === undefined || allowed === undefined || !fits) throw wrong("sealed, and must not be")
    const edges = ([1, 2] as const).filter((edge) =>
      allowed.as === "opens"
        ? edge === 1 || this.#flows[2].has(allowed.flow)
        : allowed.as === "answers"
          ? edge === 2 && this.#flows[2].has(allowed.flow)
          : this.#flows[edge].has(allowed.flow),
    )
    const by = [edge1, edge2].find((keys) =>
      this.#isSealed(this.#seal.packet, keys, packet.subarray(ip.start, ip.end)),
    )
    if (by === undefined || !edges.includes(by.edge as 1 | 2)) throw wrong("sealed otherwise than it must be")
    if (this.#seal.mark !== MARK) throw wrong("is not marked as the sealer's")
    this.#sealed.set(by.edge, (this.#sealed.get(by.edge) ?? 0n) + 1n)
    if (allowed.as === "opens" && by.edge === 1) this.#flows[1].add(allowed.flow)
    else if (allowed.as === "error") this.tally.errors += 1
    else this.tally.answers += 1
    this.tally.sealed += 1
  }

  /** Whether a frame is exactly what sealing this packet with the next sequence number of these keys gives. */
  #isSealed(out: Uint8Array, keys: EdgeKeys, inner: Uint8Array): boolean {
    const start = 14 + (this.#family === 4 ? 20 : 40) + 8
    const spi = new DataView(out.buffer, out.byteOffset, out.length).getUint32(start)
    if (spi !== keys.out.spi) return false
    const expected = esp(keys.out, (this.#sealed.get(keys.edge) ?? 0n) + 1n, inner)
    return out.length === start + expected.length && Buffer.compare(out.subarray(start), expected) === 0
  }
}

describe(`${TOTAL} mutated frames`, () => {
  test.each(families)("with a peer over IPv%i", { timeout: 600_000 }, (family) => {
    const run = new Run(family)
    afterAll(() => run.plane.close())
    while (run.tally.frames < TOTAL / families.length) run.generation()
    const counts = run.plane.counts()
    const count = (name: string): number =>
      Number(counts[verdicts.find((verdict) => verdict.name === name)?.number ?? 63] ?? 0n)
    const { tally } = run
    console.info(`IPv${family}: ${JSON.stringify(tally)}`)
    console.info(
      verdicts.flatMap(({ name }) => (count(name) === 0 ? [] : [`${name} ${count(name)}`])).join(", "),
    )
    expect(counts.reduce((sum, one) => sum + one, 0n)).toBe(BigInt(tally.frames))
    expect(count("SEALED")).toBe(tally.sealed)
    expect(count("OPENED")).toBe(tally.opened)
    expect(count("NEIGHBOUR") + count("CONTROL")).toBe(tally.stack)
    expect(count("INTERNAL")).toBe(0)
    // The oracle has seen both answers to each question, often.
    const { frames, notices, ...often } = tally
    for (const [what, number] of Object.entries(often)) expect(number, what).toBeGreaterThan(frames / 2000)
    // There are a hundred a second at most.
    expect(notices).toBeGreaterThan(0)
    for (const name of [
      "TOO_LONG",
      "BAD_TAG",
      "REPLAYED",
      "UNKNOWN_SPI",
      "BAD_ESP",
      "BAD_PADDING",
      "WRONG_INNER",
      "STRAY_ICMP",
      "EXTENSION",
    ])
      expect(count(name), name).toBeGreaterThan(frames / 10_000)
  })
})
