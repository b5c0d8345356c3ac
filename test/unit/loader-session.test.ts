/** A session's keys: what the attester is given, when, and that they end with the session. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { readAcceptedNode } from "../../services/common/config/guest-keys.ts"
import { type Crypto, native, noble } from "../../services/common/crypto/index.ts"
import {
  beginSession,
  endSession,
  leaveForAttester,
  type Session,
} from "../../services/dataplane-loader/session.ts"
import { challengeValue } from "../../services/make/challenge.ts"
import type { AcceptedOffer } from "../../services/make/offer.ts"
import { defaultSuite, offeredSuites, suites } from "../../services/make/suites.ts"
import { hexOf } from "./crypto-support.ts"

const directory = mkdtempSync(join(tmpdir(), "vouchsafe-session-"))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** What a loader believed, as far as the attester is told of it. */
const accepted = (crypto: Crypto): AcceptedOffer => {
  const [digest, verifier_nonce, beacon] = [1, 2, 3].map((of) => new Uint8Array(32).fill(of))
  if (digest === undefined || verifier_nonce === undefined || beacon === undefined)
    throw new Error("no bytes")
  return {
    control: { digest },
    challenge: { verifier_nonce, beacon },
    value: challengeValue(crypto, verifier_nonce, beacon),
  } as AcceptedOffer
}
const WORKFLOW = new Uint8Array(32).fill(4)

/** What the attester finds of it. */
const leave = (crypto: Crypto, session: Session) => {
  const request = leaveForAttester(session, WORKFLOW, accepted(crypto))
  return { request, left: readAcceptedNode(directory) }
}

describe.each([native, noble])("a session over $name", (crypto) => {
  it("offers every suite, the default first, with keys for each", () => {
    const session = beginSession(crypto, "n1", directory)
    const { left: keys } = leave(crypto, session)
    expect(keys.suites).toEqual(offeredSuites)
    expect(keys.suites[0]).toBe(defaultSuite)
    expect(keys.kemKey).toHaveLength(suites[defaultSuite].kemKeyBytes)
    expect(hexOf(keys.kemKey)).toBe(hexOf(session.kem.publicKey))
    expect(hexOf(keys.dhKey)).toBe(hexOf(session.dh.publicKey))
    endSession(session)
  })

  it("has nothing attested before an offer was accepted for it, nor what was accepted for another", () => {
    const missing = expect.objectContaining({ name: "FileError", code: "MISSING" })
    const earlier = beginSession(crypto, "n1", directory)
    expect(() => readAcceptedNode(directory)).toThrow(missing)
    leave(crypto, earlier)
    const session = beginSession(crypto, "n1", directory)
    expect(() => readAcceptedNode(directory)).toThrow(missing)
    const { request, left } = leave(crypto, session)
    expect(left).toMatchObject({ node: "n1", session: session.id, nonce: session.nonce, workflow: WORKFLOW })
    const { control, challenge, value } = accepted(crypto)
    expect(left.control).toEqual(control.digest)
    expect([left.verifierNonce, left.beacon]).toEqual([challenge.verifier_nonce, challenge.beacon])
    expect(request).toMatchObject({ session: session.id, control: control.digest, challenge: value })
    for (const each of [earlier, session]) endSession(each)
  })

  it("has keys of its own, all of them gone when it ends", () => {
    const [first, second] = [1, 2].map(() => beginSession(crypto, "n1", directory))
    if (first === undefined || second === undefined) throw new Error("no session")
    for (const key of ["signing", "dh", "kem"] as const) {
      expect(hexOf(first[key].publicKey)).not.toBe(hexOf(second[key].publicKey))
      endSession(first)
      expect(first[key].disposed).toBe(true)
      expect(second[key].disposed).toBe(false)
    }
    endSession(second)
  })

  it("leaves no secret in the guest's directory, and none of the seed behind", () => {
    const seeds: Uint8Array[] = []
    const watched: Crypto = {
      ...crypto,
      randomBytes: (length) => {
        const bytes = crypto.randomBytes(length)
        // The nonce has as many bytes, but stays.
        if (length === 32) seeds.push(bytes)
        return bytes
      },
    }
    const session = beginSession(watched, "n1", directory)
    const [seed, nonce] = seeds
    expect(seed?.every((byte) => byte === 0)).toBe(true)
    expect(nonce).toBe(session.nonce)
    leave(crypto, session)
    const file = readFileSync(join(directory, "node.json"), "utf8")
    for (const secret of [
      session.dh.reveal("x25519"),
      session.signing.reveal("ed25519"),
      session.kem.reveal("ml-kem-768").subarray(0, 32),
      session.kem.reveal("ml-kem-768").subarray(32),
    ])
      expect(file).not.toContain(hexOf(secret))
    endSession(session)
  })
})
