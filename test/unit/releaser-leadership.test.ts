import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { Candidate, HigherTerms } from "../../services/key-releaser/leadership.ts"
import { OutgrownTerms } from "../../services/key-releaser/outgrown.ts"
import { RESULTS_MOST } from "../../services/verifier/held.ts"

/** JetStream's side: one entry that lapses. */
class Bucket {
  sequence = 0
  #last = 0
  #untilMs = 0
  put(expected: number, nowMs: number): number | undefined {
    if ((nowMs < this.#untilMs ? this.#last : 0) !== expected) return undefined
    this.sequence += 1
    this.#last = this.sequence
    this.#untilMs = nowMs + limits.leaderMs
    return this.sequence
  }
}

const turn = (candidate: Candidate, bucket: Bucket | undefined, nowMs: number): boolean => {
  const expected = candidate.wants(nowMs)
  if (expected === undefined) return false
  if (bucket === undefined) {
    candidate.unanswered(nowMs)
    return false
  }
  const sequence = bucket.put(expected, nowMs)
  if (sequence === undefined) candidate.taken(nowMs)
  else candidate.stored(sequence, nowMs)
  return sequence !== undefined
}

describe("of two releasers", () => {
  it("one leads; when it dies, the other does within little more than the entry's life", () => {
    const [bucket, a, b] = [new Bucket(), new Candidate(0), new Candidate(0)]
    let nowMs = 0
    for (; nowMs < 5_000; nowMs += 50) {
      if (turn(a, bucket, nowMs)) b.heard(nowMs)
      turn(b, bucket, nowMs)
      expect([a.leads, b.leads]).toEqual([true, false])
    }
    const died = nowMs
    for (; !b.leads && nowMs < died + 5_000; nowMs += 50) turn(b, bucket, nowMs)
    expect(nowMs - died).toBeLessThanOrEqual(limits.leaderMs + 100)
  })

  it("a leader that was stalled goes on when nobody has taken its place, and gives way when somebody has", () => {
    const [bucket, a, b] = [new Bucket(), new Candidate(0), new Candidate(0)]
    turn(a, bucket, 0)
    for (const at of [5_000, 5_050]) {
      turn(a, bucket, at)
      expect(a.leads).toBe(true)
    }
    turn(b, bucket, 10_000)
    expect(b.leads).toBe(true)
    for (const at of [10_100, 10_150]) turn(a, bucket, at)
    expect(a.leads).toBe(false)
    expect(b.leads).toBe(true)
  })

  it("both lead when they are told so, and one of them when that ends", () => {
    const [one, two, a, b] = [new Bucket(), new Bucket(), new Candidate(0), new Candidate(0)]
    turn(a, one, 0)
    turn(b, two, 0)
    expect([a.leads, b.leads]).toEqual([true, true])
    for (let at = 300; at < 5_000; at += 50) {
      turn(a, one, at)
      turn(b, one, at)
    }
    expect([a.leads, b.leads]).toEqual([true, false])
  })

  it("somebody leads without a bucket, unless another one is heard", () => {
    const [a, b] = [new Candidate(0), new Candidate(0)]
    for (let at = 0; at < 4_000; at += 100) {
      turn(a, undefined, at)
      b.heard(at)
      turn(b, undefined, at)
    }
    expect([a.leads, b.leads]).toEqual([true, false])
    a.yields(4_000)
    expect(a.leads).toBe(false)
  })

  it("a bucket that was made anew, or put back as it was, ends nobody's reign for more than a turn", () => {
    const [a, b] = [new Candidate(0), new Candidate(0)]
    turn(a, new Bucket(), 0)
    b.heard(0)
    const made = new Bucket()
    for (let at = 250; at < 2_000; at += 50) {
      if (turn(a, made, at)) b.heard(at)
      turn(b, made, at)
    }
    expect([a.leads, b.leads]).toEqual([true, false])
  })

  it("one whose guest can't prove itself lets the other go first", () => {
    const [bucket, a, b] = [new Bucket(), new Candidate(0), new Candidate(0)]
    turn(a, bucket, 0)
    a.resign(100)
    for (let at = 100; at < 4_000; at += 50) {
      turn(a, bucket, at)
      turn(b, bucket, at)
    }
    expect([a.leads, b.leads]).toEqual([false, true])
  })
})

describe("a higher term that somebody claims", () => {
  it("makes a leader begin a new one, ever more rarely", () => {
    const higher = new HigherTerms()
    expect(higher.claim(9n, undefined, 0)).toBe(false)
    expect(higher.claim(4n, 5n, 0)).toBe(false)
    let began = 0
    for (let at = 0; at < 3_600_000; at += 1_000) if (higher.claim(BigInt(at) + 10n, 5n, at)) began++
    expect(began).toBeGreaterThan(2)
    expect(began).toBeLessThan(12)
    expect(higher.heard).toBe(3_599_010n)
  })
  it("of the same number does so too: two leaders must differ", () => {
    expect(new HigherTerms().claim(5n, 5n, 0)).toBe(true)
  })
})

describe("a higher term that a node has followed itself", () => {
  it("makes a leader below it begin a new one, of many nodes that say so at once only once", () => {
    const outgrown = new OutgrownTerms()
    expect(outgrown.claim("a", 9n, undefined, 0)).toBe(false)
    expect(outgrown.claim("a", 5n, 5n, 0)).toBe(false)
    expect(outgrown.claim("a", 9n, 5n, 0)).toBe(true)
    expect(outgrown.claim("b", 20n, 10n, 1_999)).toBe(false)
    expect(outgrown.claim("b", 20n, 10n, 2_000)).toBe(true)
  })
  it("makes a leader begin no more than twice a minute, however many bad nodes say so, and keeps nobody waiting for longer", () => {
    const outgrown = new OutgrownTerms()
    const began: number[] = []
    for (let at = 0; at < 900_000; at += 100)
      for (let bad = 0; bad < 40; bad++) if (outgrown.claim(`bad-${bad}`, 9n, 5n, at)) began.push(at)
    // Each costs every node a session, of which a verifier remembers so many.
    expect(began.length).toBeLessThan(RESULTS_MOST - 20)
    // Each is above all that was told: a node that says so by itself, again and again, is answered by the next.
    const pauses = began.map((at, i) => at - (began[i - 1] ?? 0))
    expect(Math.max(...pauses)).toBeLessThanOrEqual(30_100)
    const waiting = new OutgrownTerms()
    for (let i = 0; i < 4; i++) expect(waiting.claim(`bad-${i}`, 9n, 5n, i * 2_000)).toBe(true)
    const answered = Array.from({ length: 100 }, (_, i) => waiting.claim("good", 9n, 5n, 8_000 + i * 1_000))
    expect(answered.indexOf(true)).toBeLessThanOrEqual(30)
    expect(answered.filter(Boolean).length).toBeGreaterThan(2)
  })
  it("is worth less and less from one that says so all the time, and as much as ever from others", () => {
    const outgrown = new OutgrownTerms()
    let began = 0
    for (let at = 0; at < 600_000; at += 1_000) if (outgrown.claim("a", 9n, 5n, at)) began++
    expect(began).toBeGreaterThan(8)
    expect(began).toBeLessThan(19)
    expect(outgrown.claim("b", 9n, 5n, 602_000)).toBe(true)
  })
})
