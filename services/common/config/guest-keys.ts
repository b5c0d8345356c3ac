/**
 * What a guest's own services leave for its attester, in a directory that only root can enter: their public keys, and
 * what a loader has checked. It is what Evidence binds, so it comes from inside the guest and never over the bus.
 */
import { lstatSync, mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Schema } from "effect"
import { TOKEN } from "../../../schemas/fields.ts"
import { limits } from "../../../schemas/limits.ts"
import type { Credential, Endorsement } from "../../../schemas/messages/attestation.ts"
import { toHex } from "../hex.ts"
import { FileError, readJson, writeJson } from "./files.ts"

const Hex = (bytes: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${bytes * 2}}$`)))
const HexUpTo = (bytes: number) =>
  Schema.String.check(Schema.isPattern(/^([0-9a-f]{2})+$/)).check(Schema.isMaxLength(bytes * 2))
const Id = Schema.String.check(Schema.isPattern(TOKEN))

/** What a loader wants attested: its session's keys, and what it has believed for them. */
const NodeFile = Schema.Struct({
  node: Id,
  session: Hex(16),
  nonce: Hex(32),
  signing_key: Hex(32),
  dh_key: Hex(32),
  kem_key: Schema.String.check(Schema.isPattern(/^([0-9a-f]{2368})?$/)),
  suites: Schema.Array(Schema.String.check(Schema.isMaxLength(64))).check(Schema.isMaxLength(8)),
  workflow: Hex(32),
  control: Hex(32),
  verifier_nonce: Hex(32),
  beacon: Hex(32),
  credential: Schema.optionalKey(Schema.Struct({ blob: HexUpTo(256), secret: HexUpTo(1_024) })),
})
/** TPMT_PUBLICs of the TPM that the attester holds: what a loader says in its hello. */
const EndorsementFile = Schema.Struct({ ek: HexUpTo(1_024), ak: HexUpTo(1_024) })
const VerifierFile = Schema.Struct({ instance: Id, key: Hex(32) })
const ReleaserFile = Schema.Struct({
  instance: Id,
  key: Hex(32),
  verifiers: Schema.Array(Hex(32)).check(Schema.isMaxLength(limits.otherVerifiers)),
  term: Schema.String.check(Schema.isPattern(/^\d{1,20}$/)),
})

export interface NodeKeys {
  readonly node: string
  readonly session: Uint8Array
  readonly nonce: Uint8Array
  readonly signingKey: Uint8Array
  readonly dhKey: Uint8Array
  readonly kemKey: Uint8Array
  readonly suites: ReadonlyArray<string>
}

/** A session that the loader has accepted a control plane and its challenge for: all of it enters the node's Evidence. */
export interface AcceptedNode extends NodeKeys {
  /** Digest of the document under which the control plane was believed. */
  readonly workflow: Uint8Array
  /** The control digest. */
  readonly control: Uint8Array
  readonly verifierNonce: Uint8Array
  readonly beacon: Uint8Array
  readonly credential?: Credential | undefined
}
export interface VerifierKey {
  readonly instance: string
  readonly key: Uint8Array
}
export interface ReleaserKey extends VerifierKey {
  /** 0 while it stands by. */
  readonly term: bigint
  /** Other guests' verifiers that this releaser has appraised itself. Ascending in the file. */
  readonly verifiers?: ReadonlyArray<Uint8Array>
}

const unhex = (text: string) => new Uint8Array(Buffer.from(text, "hex"))

/** Makes sure the directory exists and is root's alone. @throws FileError UNSAFE */
export const openRunDirectory = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  checkRunDirectory(path)
}

const checkRunDirectory = (path: string): void => {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw new FileError("MISSING", path, "the run directory is not there")
  if (!stat.isDirectory() || stat.uid !== process.getuid?.() || (stat.mode & 0o077) !== 0) {
    throw new FileError("UNSAFE", path, "the run directory must belong to this user alone (mode 0700)")
  }
}

const nodeFile = (runDirectory: string): string => join(runDirectory, "node.json")

/** Until the next one is accepted, the attester answers for no session. */
export const forgetAcceptedNode = (runDirectory: string): void =>
  rmSync(nodeFile(runDirectory), { force: true })

/** To be called before the attester is asked, and after everything in it was checked: the attester trusts it. */
export const writeAcceptedNode = (runDirectory: string, node: AcceptedNode): void => {
  const { credential } = node
  writeJson(nodeFile(runDirectory), {
    node: node.node,
    session: toHex(node.session),
    nonce: toHex(node.nonce),
    signing_key: toHex(node.signingKey),
    dh_key: toHex(node.dhKey),
    kem_key: toHex(node.kemKey),
    suites: node.suites,
    workflow: toHex(node.workflow),
    control: toHex(node.control),
    verifier_nonce: toHex(node.verifierNonce),
    beacon: toHex(node.beacon),
    ...(credential && {
      credential: { blob: toHex(credential.blob), secret: toHex(credential.secret) },
    }),
  })
}

/** @throws FileError; MISSING while the loader has accepted nothing for its newest session */
export const readAcceptedNode = (runDirectory: string): AcceptedNode => {
  checkRunDirectory(runDirectory)
  const file = readJson(NodeFile, nodeFile(runDirectory), { secret: true })
  return {
    node: file.node,
    session: unhex(file.session),
    nonce: unhex(file.nonce),
    signingKey: unhex(file.signing_key),
    dhKey: unhex(file.dh_key),
    kemKey: unhex(file.kem_key),
    suites: file.suites,
    workflow: unhex(file.workflow),
    control: unhex(file.control),
    verifierNonce: unhex(file.verifier_nonce),
    beacon: unhex(file.beacon),
    credential: file.credential && {
      blob: unhex(file.credential.blob),
      secret: unhex(file.credential.secret),
    },
  }
}

/** Of a TPM's two keys, or none: nothing of an earlier start is left. */
export const writeEndorsement = (runDirectory: string, keys: Endorsement | undefined): void => {
  const path = join(runDirectory, "endorsement.json")
  if (keys === undefined) rmSync(path, { force: true })
  else writeJson(path, { ek: toHex(keys.ek), ak: toHex(keys.ak) })
}

/** @returns undefined where the attester has left none. @throws FileError */
export const readEndorsement = (runDirectory: string): Endorsement | undefined => {
  checkRunDirectory(runDirectory)
  const path = join(runDirectory, "endorsement.json")
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined
  const file = readJson(EndorsementFile, path, { secret: true })
  return { ek: unhex(file.ek), ak: unhex(file.ak) }
}

export const writeVerifierKey = (runDirectory: string, key: VerifierKey): void =>
  writeJson(join(runDirectory, "verifier.json"), { instance: key.instance, key: toHex(key.key) })

/** @throws FileError */
export const readVerifierKey = (runDirectory: string): VerifierKey => {
  checkRunDirectory(runDirectory)
  const file = readJson(VerifierFile, join(runDirectory, "verifier.json"), { secret: true })
  return { instance: file.instance, key: unhex(file.key) }
}

export const writeReleaserKey = (runDirectory: string, key: ReleaserKey): void =>
  writeJson(join(runDirectory, "releaser.json"), {
    instance: key.instance,
    key: toHex(key.key),
    verifiers: [...new Set(key.verifiers?.map(toHex))].sort(),
    term: key.term.toString(),
  })

/** @throws FileError */
export const readReleaserKey = (runDirectory: string): Required<ReleaserKey> => {
  checkRunDirectory(runDirectory)
  const file = readJson(ReleaserFile, join(runDirectory, "releaser.json"), { secret: true })
  const verifiers = file.verifiers.map(unhex)
  return { instance: file.instance, key: unhex(file.key), term: BigInt(file.term), verifiers }
}
