import { describe, expect, it } from "vitest"
import { Release, ReleasePayload } from "../../schemas/messages/release.ts"
import type { Crypto } from "../../services/common/crypto/port.ts"
import { decodeBody } from "../../services/guest/refusals.ts"
import { makeSealer } from "../../services/key-releaser/seal.ts"
import { verify } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { openRelease } from "../../services/make/release.ts"
import type { ReleaseOutput } from "../../services/make/releaser.ts"
import { attest, crypto, filled, newReleaser, releasesIn } from "../support/make-lab.ts"

const key = crypto.ed25519.generate()

/** Two nodes that have just come: each one's newest release brings secrets. */
const start = (by: Crypto = crypto) => {
  const releaser = newReleaser({ crypto: by })
  const nodes = new Map<string, ReturnType<typeof attest>>()
  const pull = (id: string, count: number): ReadonlyArray<ReleaseOutput> => {
    const known = nodes.get(id)
    const own = known ?? attest(id, releaser.beacon(0))
    nodes.set(id, own)
    releaser.accept(own.result, 0)
    const nonce = filled(32, 9)
    new DataView(nonce.buffer).setBigUint64(0, BigInt(count))
    const { session } = own.result.claims
    return releasesIn(releaser.pull({ node: id, session, nonce, kem_key: own.kemSecret.publicKey }, 0))
  }
  /** As the node does. */
  const open = ({ node, header }: ReleaseOutput, signed: ReturnType<ReturnType<typeof makeSealer>>) => {
    const own = nodes.get(node)
    if (own === undefined) throw new Error(node)
    const release = decodeBody(
      Release,
      verify(crypto, labels.signedRelease, [key.publicKey], signed),
      "release",
    )
    const { dhSecret, kemSecret, result } = own
    const opener = { suite: header.suite, dhSecret, kemSecret, result: result.digest }
    return {
      release,
      payload: decodeBody(ReleasePayload, openRelease(crypto, opener, header, release), "payload"),
    }
  }
  return { releaser, pull, open }
}

describe("the sealing of releases", () => {
  it("wipes secrets once they are sealed, and keeps none of them for later", () => {
    const { pull, open } = start()
    pull("beta", 1)
    const [output] = pull("alpha", 1).filter(({ node }) => node === "alpha")
    if (output === undefined) throw new Error("no release")
    const seal = makeSealer(crypto, key)
    const before = output.payload.edges.map(({ secret }) => Uint8Array.from(secret ?? []))
    expect(before.map(({ length }) => length)).toEqual([32, 32])
    const { payload } = open(output, seal(output))
    expect(payload.edges.map(({ secret }) => secret)).toEqual(before)
    for (const { secret } of output.payload.edges) expect(secret).toEqual(filled(32, 0))
    // What is sealed of the same object again comes from the object, not from what was packed.
    expect(open(output, seal(output)).payload.edges.map(({ secret }) => secret)).toEqual([
      filled(32, 0),
      filled(32, 0),
    ])
  })

  it("has the secrets again for a node that asks again before it has confirmed anything", () => {
    const { pull, open } = start()
    pull("beta", 1)
    const seal = makeSealer(crypto, key)
    const told = [1, 2].map((count) => {
      const [output] = pull("alpha", count).filter(({ node }) => node === "alpha")
      if (output === undefined) throw new Error("no release")
      return open(output, seal(output)).payload.edges
    })
    expect(told[0]?.map(({ secret }) => secret?.some((byte) => byte !== 0))).toEqual([true, true])
    expect(told[1]).toEqual(told[0])
  })

  it("seals the first release under what a node's keys were tried with, and never a second", () => {
    let made = 0
    const counting: Crypto = {
      ...crypto,
      mlkem768: {
        ...crypto.mlkem768,
        encapsulate: (to) => {
          made += 1
          return crypto.mlkem768.encapsulate(to)
        },
      },
    }
    const { pull, open } = start(counting)
    const seal = makeSealer(counting, key)
    const [output] = pull("alpha", 1)
    if (output === undefined) throw new Error("no release")
    expect(made).toBe(1)
    const first = open(output, seal(output))
    expect(made).toBe(1)
    const again = open(output, seal(output))
    expect(made).toBe(2)
    expect(again.release.enc).not.toEqual(first.release.enc)
    expect(again.payload).toEqual(first.payload)
    // New keys: what was made for the old ones is gone, and an output that still names it is sealed all the same.
    const [next] = pull("beta", 1).filter(({ node }) => node === "beta")
    if (next?.recipient.ahead === undefined) throw new Error("nothing made ahead")
    next.recipient.ahead.wipe()
    expect(next.recipient.ahead.take()).toBeUndefined()
    expect(() => open(next, seal(next))).not.toThrow()
  })

  it("says the same in a renewal that changes nothing, under a new encapsulation", () => {
    const { pull, open } = start()
    const seal = makeSealer(crypto, key)
    const [first, second] = [1, 2].map((count) => {
      const [output] = pull("alpha", count)
      if (output === undefined) throw new Error("no release")
      return { output, ...open(output, seal(output)) }
    })
    expect(second?.output.payload).toBe(first?.output.payload)
    expect(second?.payload).toEqual(first?.payload)
    expect(second?.release.sequence).toBe(2n)
    expect(second?.release.nonce).not.toEqual(first?.release.nonce)
    expect(second?.release.enc).not.toEqual(first?.release.enc)
    expect(second?.release.ciphertext).not.toEqual(first?.release.ciphertext)
  })
})
