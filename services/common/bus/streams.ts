/** JetStream as far as the project uses it: five streams, kept by the operator, read with direct gets and no consumers. */
import { limits } from "../../../schemas/limits.ts"
import { fill } from "../../../schemas/pattern.ts"
import { streams, subjects } from "../../../schemas/subjects.ts"

const DAY_NS = 86_400_000_000_000
const MIB = 1_048_576

/** The stream behind the bucket of workflows. */
export const BUCKET_STREAM = `KV_${streams.workflows}`

/** The subject on which a workflow is stored; `key` is a checked token. */
export const bucketSubject = (key: string): string => `$KV.${streams.workflows}.${key}`

/** The stream behind the bucket of collateral, and the subject of one of its keys: a checked token, or `*`. */
export const COLLATERAL_STREAM = `KV_${streams.collateral}`
export const collateralSubject = (key: string): string => `$KV.${streams.collateral}.${key}`

/** The stream behind the bucket of leaders. */
export const LEADER_STREAM = `KV_${streams.leaders}`
export const leaderSubject = (key: string): string => `$KV.${streams.leaders}.${key}`

/** The stream behind the bucket of proofs, and the subject of one of its keys: a digest in hex, or `*`. */
export const PROOF_STREAM = `KV_${streams.proofs}`
export const proofSubject = (key: string): string => `$KV.${streams.proofs}.${key}`

const common = {
  retention: "limits",
  storage: "file",
  num_replicas: 1,
  deny_delete: true,
  deny_purge: true,
  allow_direct: true,
  duplicate_window: 120_000_000_000,
} as const

/** Settings of all streams, in the words of the JetStream API. */
export const settings = (prefix: string) => [
  {
    ...common,
    name: streams.events,
    subjects: [fill(prefix, subjects.event.pattern, () => "*", { wild: true })],
    max_age: 7 * DAY_NS,
    max_bytes: 256 * MIB,
    max_msg_size: subjects.event.bytesMax + 1_024,
    discard: "old",
  },
  {
    ...common,
    name: BUCKET_STREAM,
    subjects: [`$KV.${streams.workflows}.>`],
    max_msgs_per_subject: 8,
    max_bytes: 64 * MIB,
    max_msg_size: limits.messageBytes + 1_024,
    discard: "new",
  },
  {
    ...common,
    name: COLLATERAL_STREAM,
    subjects: [collateralSubject("*")],
    max_msgs_per_subject: 1,
    max_bytes: 64 * MIB,
    max_msg_size: subjects.collateral.bytesMax + 1_024,
    discard: "new",
  },
  {
    ...common,
    name: LEADER_STREAM,
    subjects: [leaderSubject("*")],
    storage: "memory",
    max_age: limits.leaderMs * 1_000_000,
    duplicate_window: limits.leaderMs * 1_000_000,
    max_msgs_per_subject: 1,
    max_bytes: 65_536,
    max_msg_size: subjects.leader.bytesMax + 1_024,
    discard: "old",
  },
  {
    ...common,
    name: PROOF_STREAM,
    subjects: [proofSubject("*")],
    max_age: limits.peerEvidenceMs * 1_000_000,
    max_msgs_per_subject: 1,
    max_bytes: 64 * MIB,
    max_msg_size: limits.proofBytes + 1_024,
    discard: "old",
  },
]

/** JetStream's own answers are JSON; only these fields are looked at. */
export interface ApiAnswer {
  readonly error?: { readonly err_code?: number; readonly description?: string }
  readonly seq?: number
  readonly stream?: string
}

/** Reads a JetStream answer; undefined when it is none. */
export const apiAnswer = (data: Uint8Array): ApiAnswer | undefined => {
  try {
    const found: unknown = JSON.parse(Buffer.from(data).toString("utf8"))
    return typeof found === "object" && found !== null ? (found as ApiAnswer) : undefined
  } catch {
    return undefined
  }
}

/** err_code: there is no stream of this name. */
export const STREAM_NOT_FOUND = 10_059

/** err_code: the last message of the subject is another than was expected. */
export const WRONG_LAST_SEQUENCE = 10_071
