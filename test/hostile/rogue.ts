/**
 * A releaser whose key the control plane's Evidence binds, and who says what it likes. Stands in for a releaser that was
 * taken over: what a node checks after the signature can be seen only by somebody who can sign.
 */
import { readFileSync, renameSync } from "node:fs"
import { join } from "node:path"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { Beacon, Pull, Release, ReleasePayload } from "../../schemas/messages/release.ts"
import { decode, encode, type MessageSchema } from "../../services/common/codec/index.ts"
import { writeReleaserKey } from "../../services/common/config/guest-keys.ts"
import { writeState } from "../../services/evidence/index.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { type Recipient, type ReleaseHeader, sealRelease } from "../../services/make/release.ts"
import { resultDigest } from "../../services/make/result.ts"
import { AHEAD_MAX } from "../../services/make/term.ts"
import { crypto, hex, until, type World } from "./support.ts"

export const decoded = <T>(schema: MessageSchema<T>, bytes: Uint8Array): T => {
  const found = decode(schema, bytes, { subject: "captured" })
  if (found.ok) return found.value
  throw found.error
}

export const pullIn = (data: Uint8Array): Pull => decoded(Pull, decoded(Signed, data).body)
export const releaseIn = (data: Uint8Array): Release => decoded(Release, decoded(Signed, data).body)

export interface Bending {
  readonly header?: Partial<ReleaseHeader>
  readonly payload?: Partial<ReleasePayload>
  readonly recipient?: Partial<Recipient>
  /** After sealing, before signing. */
  readonly outer?: (release: Release) => Release
}

export interface Rogue {
  readonly term: bigint
  /** The newest request that the node has made. */
  readonly pull: () => Pull | undefined
  /** Signs and sends an answer to it, right but for the bending. */
  readonly release: (bending?: Bending) => void
  /** Answers the newest request as it should be, once. */
  readonly answer: () => void
  /** Sequence of the last such answer. */
  readonly answered: () => bigint
  /** Lets nodes that attest from now on believe the real releaser again. */
  readonly restore: () => void
}

/**
 * From now on, nodes that attest are told that this key is the releaser's.
 * @param verifiers keys that it vouches for besides that of the guest's own verifier
 */
export const takeOver = (world: World, node: string, verifiers: ReadonlyArray<Uint8Array> = []): Rogue => {
  const path = join(world.controlDirectory, "releaser.json")
  const real = readFileSync(path, "utf8")
  // So far ahead that the real one doesn't rise above it when it hears of it.
  const term = BigInt((JSON.parse(real) as { term: string }).term) + 2n * AHEAD_MAX
  const key = crypto.ed25519.generate()
  writeReleaserKey(world.controlDirectory, { instance: "r1", key: key.publicKey, term, verifiers })
  const beacon = crypto.randomBytes(32)
  const beat = (): void =>
    world.say("beacon.r1", encode(Beacon, { v: 1, releaser: "r1", control: "cp", term, nonce: beacon }))
  beat()
  const beating = setInterval(beat, 50)
  let sequence = 0n
  let answered = 0n
  let last = ""

  const newest = (): Pull | undefined => {
    // Not what a session that came to nothing says of terms: the one before goes on.
    const pulls = world.sent(`pull.${node}`).map(pullIn)
    return pulls.findLast(({ followed }) => followed === undefined)
  }
  const release = ({ header = {}, payload = {}, recipient = {}, outer = (same) => same }: Bending = {}) => {
    const pull = newest()
    if (pull === undefined) throw new Error(`${node} has not asked`)
    const claims = decoded(AttestationResult, pull.result.body)
    sequence += 1n
    const whole: ReleaseHeader = {
      domain: "lab",
      workflow: world.workflow.digest,
      node,
      session: pull.session,
      releaser: "r1",
      term,
      sequence,
      nonce: pull.nonce,
      suite: world.workflow.document.suite,
      ...header,
    }
    const to: Recipient = {
      dhKey: claims.dh_key,
      kemKey: pull.kem_key,
      result: resultDigest(crypto, pull.result.body),
      ...recipient,
    }
    const packed = encode(ReleasePayload, {
      v: 1,
      lease_ms: 6_000,
      batches: [],
      edges: [],
      ...payload,
    })
    const { enc, ciphertext } = sealRelease(crypto, to, whole, packed)
    const body = encode(Release, outer({ v: 1, ...whole, enc, ciphertext }))
    world.say(`release.${node}`, encode(Signed, sign(crypto, labels.signedRelease, key, body)))
  }
  return {
    term,
    pull: newest,
    release,
    answer: () => {
      const nonce = hex(newest()?.nonce ?? new Uint8Array(0))
      if (nonce === last) return
      last = nonce
      release()
      answered = sequence
    },
    answered: () => answered,
    restore: () => {
      clearInterval(beating)
      writeState(`${path}.real`, real)
      renameSync(`${path}.real`, path)
    },
  }
}

/** Waits for a request that is younger than `than`. */
export const freshPull = (rogue: Rogue, than?: Pull): Promise<Pull> =>
  until("a fresh request", () => {
    const pull = rogue.pull()
    const fresh = pull !== undefined && (than === undefined || Buffer.compare(pull.nonce, than.nonce) !== 0)
    return fresh ? pull : undefined
  })
