import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { BeaconBook, ChallengeBook, challengeValue } from "../../services/make/challenge.ts"
import { MakeError } from "../../services/make/errors.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const beacon = filled(32, 1)
const session = filled(16, 2)

describe("challenge value", () => {
  it("is made of both nonces, in their places", () => {
    const value = challengeValue(crypto, filled(32, 3), beacon)
    expect(value).toHaveLength(32)
    expect(challengeValue(crypto, filled(32, 3), beacon)).toEqual(value)
    expect(challengeValue(crypto, beacon, filled(32, 3))).not.toEqual(value)
    expect(challengeValue(crypto, filled(32, 4), beacon)).not.toEqual(value)
    expect(challengeValue(crypto, filled(32, 3), filled(32, 4))).not.toEqual(value)
    expect(() => challengeValue(crypto, filled(31, 3), beacon)).toThrow(MakeError)
    expect(() => challengeValue(crypto, filled(32, 3), filled(33, 1))).toThrow(MakeError)
  })
})

describe("ChallengeBook", () => {
  it("lets a challenge be answered once", () => {
    const book = new ChallengeBook(crypto)
    const issued = book.issue("n1", session, beacon, 0)
    expect(book.take("n1", session, issued.verifierNonce, 1)).toMatchObject({
      nodeId: "n1",
      value: issued.value,
    })
    expect(() => book.take("n1", session, issued.verifierNonce, 1)).toThrow(/not outstanding/)
  })

  it("lets only the node and session answer that it was made for", () => {
    const book = new ChallengeBook(crypto)
    const one = book.issue("n1", session, beacon, 0)
    const two = book.issue("n2", session, beacon, 0)
    expect(() => book.take("n2", session, one.verifierNonce, 1)).toThrow(/not outstanding/)
    expect(book.take("n2", session, two.verifierNonce, 1).nodeId).toBe("n2")
    expect(() => book.take("n1", filled(16, 9), one.verifierNonce, 1)).toThrow(/session/)
    expect(() => book.take("n1", session, one.verifierNonce, 1), "used up by the failure").toThrow(
      /not outstanding/,
    )
  })

  it("isn't used up by somebody who doesn't know it", () => {
    const book = new ChallengeBook(crypto)
    const issued = book.issue("n1", session, beacon, 0)
    expect(() => book.take("n1", session, filled(32, 9), 1)).toThrow(MakeError)
    expect(() => book.take("n1", session, new Uint8Array(0), 1)).toThrow(MakeError)
    expect(book.take("n1", session, issued.verifierNonce, 1).value).toEqual(issued.value)
  })

  it("keeps the newest challenge of a node only, and none past its time", () => {
    const book = new ChallengeBook(crypto)
    const old = book.issue("n1", session, beacon, 0)
    const fresh = book.issue("n1", session, beacon, 5)
    expect(() => book.take("n1", session, old.verifierNonce, 6)).toThrow(/not outstanding/)
    expect(() => book.take("n1", session, fresh.verifierNonce, 5 + limits.challengeMs)).toThrow(/older than/)
  })

  it("holds no more than there can be nodes, and makes room when time goes by", () => {
    const book = new ChallengeBook(crypto)
    for (let i = 0; i < limits.nodes; i++) book.issue(`n${i}`, session, beacon, 0)
    expect(() => book.issue("one-more", session, beacon, 1)).toThrow(/outstanding/)
    book.issue("n0", session, beacon, 1)
    book.issue("one-more", session, beacon, limits.challengeMs)
    expect(book.size).toBe(2)
  })
})

describe("BeaconBook", () => {
  it("renews its beacon and tells when each was issued, until it is too old", () => {
    const book = new BeaconBook(crypto)
    const first = book.current(0)
    expect(book.current(limits.beaconEveryMs - 1)).toEqual(first)
    const second = book.current(limits.beaconEveryMs)
    expect(second).not.toEqual(first)
    expect(book.issuedAt(first, 2_000)).toBe(0)
    expect(book.issuedAt(second, 2_000)).toBe(limits.beaconEveryMs)
    expect(() => book.issuedAt(first, limits.beaconMs)).toThrow(MakeError)
  })

  it("knows nothing of another releaser's or another term's beacons", () => {
    const foreign = new BeaconBook(crypto).current(0)
    expect(() => new BeaconBook(crypto).issuedAt(foreign, 0)).toThrow(/not issued here/)
  })
})
