/** What the bus offers to services, and how it fails. Types follow the table of subjects. */
import { Data, type Effect, type Scope } from "effect"
import type { CollateralPiece } from "../../../schemas/messages/collateral.ts"
import type { Event } from "../../../schemas/messages/event.ts"
import type { Proof } from "../../../schemas/messages/peer.ts"
import type { Leader } from "../../../schemas/messages/release.ts"
import type { SubjectName, subjects } from "../../../schemas/subjects.ts"
import type { SignedWorkflow } from "../../../schemas/workflow.ts"
import type { Counters } from "./counters.ts"
import type { Identity, Tokens } from "./subject.ts"

type Rows = typeof subjects
type Named<Kind extends string> = {
  [N in SubjectName]: Rows[N]["kind"] extends Kind ? N : never
}[SubjectName]

export type RequestName = Named<"request">
export type PublishName = Named<"publish">
/** What can be subscribed to without answering. */
export type ListenName = Named<"publish" | "event">

export type Payload<N extends SubjectName> = Rows[N]["payload"]["Type"]
export type Reply<N extends RequestName> = Rows[N]["reply"]["Type"]

export type BusReason =
  /** No answer in time. */
  | "Timeout"
  /** Nobody serves this subject now. */
  | "NoResponders"
  /** The server's permissions forbid it. */
  | "Denied"
  /** The answer is not what the table says; `message` names the field. */
  | "Decode"
  /** The connection is down, or closed for good. */
  | "Closed"
  /** Our own value does not fit its schema, its size or its subject: a programming error. */
  | "Invalid"
  /** JetStream or the bucket refused; `message` says why. */
  | "Stream"

export class BusError extends Data.TaggedError("BusError")<{
  readonly reason: BusReason
  readonly subject: string
  readonly message: string
}> {}

/** How a handler says no: the sender gets a Refusal with these texts, so nothing secret belongs in them. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly code: string
  readonly field: string
  readonly message: string
}> {}

/** What is known of a message besides its value. */
export interface Envelope<N extends SubjectName> {
  readonly tokens: Tokens<N>
  /** The identity that the subject permits to have sent it; undefined where any of a role may have. */
  readonly sender: string | undefined
}

export interface ServeOptions {
  /** Requests being answered at once; more are refused with BUSY. */
  readonly inFlightMax?: number
  /** The same for one sender, so that one cannot fill all places. */
  readonly perSenderMax?: number
  /** Requests of one sender that are looked at; more are dropped without an answer. Unbounded if not said. */
  readonly pace?: SenderPace
}

/** So many at once, and so many a second from then on. */
export interface SenderPace {
  readonly burst: number
  readonly aSecond: number
  /** How many senders there may be. */
  readonly senders: number
}

/** A request that was not decoded yet, no larger than its subject allows. */
export interface Unread<N extends RequestName> {
  readonly bytes: Uint8Array
  readonly read: Effect.Effect<Payload<N>, Refused>
}

export interface ListenOptions {
  /** Messages that wait for the handler; a newer one of the same sender replaces its oldest beyond `perSenderMax`. */
  readonly waitingMax?: number
  readonly perSenderMax?: number
  /** Messages of one sender that are handled; more are dropped. Unbounded if not said. */
  readonly pace?: SenderPace
}

/** An event without what the bus fills in: version, id, source and time. */
export type EventDraft = Pick<Event, "type" | "data"> & { readonly subject?: string }

export interface StoredEvent {
  readonly sequence: number
  /** The publisher, by the subject that only it may publish on. */
  readonly identity: string
  readonly event: Event
}

export interface StoredWorkflow {
  /** The bucket's revision: a hint for people, never a version to decide by. */
  readonly revision: number
  readonly value: SignedWorkflow
}

export interface StoredCollateral {
  readonly key: string
  readonly piece: CollateralPiece
}

export interface BusShape {
  readonly identity: Identity
  readonly prefix: string

  /** Asks and waits. A `Refusal` is a reply like any other; the error channel is for what is no reply. */
  readonly request: <N extends RequestName>(
    name: N,
    tokens: Tokens<N>,
    value: Payload<N>,
    options: { readonly timeoutMs: number },
  ) => Effect.Effect<Reply<N>, BusError>

  /** Sends once, without knowing whether anyone got it. */
  readonly publish: <N extends PublishName>(
    name: N,
    tokens: Tokens<N>,
    value: Payload<N>,
  ) => Effect.Effect<void, BusError>

  /** Queues an event for the stream EVENTS. Never waits, never fails; what was lost is counted and logged. */
  readonly event: (draft: EventDraft) => Effect.Effect<void>

  /** Answers requests until the scope closes; then takes no more and ends those that it began (at most 5 s). */
  readonly serve: <N extends RequestName, R = never>(
    name: N,
    tokens: Partial<Tokens<N>>,
    handler: (value: Payload<N>, from: Envelope<N>) => Effect.Effect<Reply<N>, Refused, R>,
    options?: ServeOptions,
  ) => Effect.Effect<void, BusError, R | Scope.Scope>

  /** As `serve`, for handlers to whom a look at the bytes may be enough to refuse them. */
  readonly serveUnread: <N extends RequestName, R = never>(
    name: N,
    tokens: Partial<Tokens<N>>,
    handler: (request: Unread<N>, from: Envelope<N>) => Effect.Effect<Reply<N>, Refused, R>,
    options?: ServeOptions,
  ) => Effect.Effect<void, BusError, R | Scope.Scope>

  /** Hands over messages one at a time, fairly between senders, until the scope closes. A failing handler is logged. */
  readonly subscribe: <N extends ListenName, R = never>(
    name: N,
    tokens: Partial<Tokens<N>>,
    handler: (value: Payload<N>, from: Envelope<N>) => Effect.Effect<unknown, unknown, R>,
    options?: ListenOptions,
  ) => Effect.Effect<void, BusError, R | Scope.Scope>

  readonly workflows: {
    /** The stored workflow of a domain; undefined when there is none. Its signatures have not been checked. */
    readonly get: (domain: string) => Effect.Effect<StoredWorkflow | undefined, BusError>
    /** Stores one (operator only) and gives its revision. */
    readonly put: (domain: string, value: SignedWorkflow) => Effect.Effect<number, BusError>
    /** Calls the handler with the stored one, if any, then with each that differs from the last, until the scope closes. */
    readonly watch: <R = never>(
      domain: string,
      handler: (value: SignedWorkflow) => Effect.Effect<unknown, unknown, R>,
    ) => Effect.Effect<void, BusError, R | Scope.Scope>
  }

  readonly collateral: {
    /** All that is stored, as it is: nothing of it has been checked. */
    readonly list: Effect.Effect<ReadonlyArray<StoredCollateral>, BusError>
    /** Stores one piece under its key (operator only). */
    readonly put: (key: string, piece: CollateralPiece) => Effect.Effect<void, BusError>
  }

  readonly proofs: {
    /** What is stored under a digest (32 bytes), packed; undefined when there is nothing. Nothing of it has been checked. */
    readonly get: (digest: Uint8Array) => Effect.Effect<Uint8Array | undefined, BusError>
    /** Stores one under the digest that its readers know (verifier only). */
    readonly put: (digest: Uint8Array, proof: Proof) => Effect.Effect<void, BusError>
  }

  readonly leaders: {
    /**
     * Stores who leads, if the entry with sequence `last` is still the newest (0: there is none), and gives the new one's
     * sequence; undefined when it isn't (releaser only).
     */
    readonly put: (domain: string, value: Leader, last: number) => Effect.Effect<number | undefined, BusError>
    /** Calls back whenever somebody renews its entry, whatever that says, until the scope closes. */
    readonly watch: (domain: string, seen: () => void) => Effect.Effect<void, BusError, Scope.Scope>
  }

  /** Up to `most` stored events after stream sequence `after` (0 for all), oldest first (operator and auditor). */
  readonly history: (options: {
    readonly after: number
    readonly most: number
  }) => Effect.Effect<ReadonlyArray<StoredEvent>, BusError>

  /** Makes the stream EVENTS and the buckets, or brings them to today's settings (operator only). */
  readonly ensureStreams: Effect.Effect<void, BusError>

  /** What has been counted since the start. */
  readonly counters: () => Counters

  /** Never ends while the connection can come back; fails once it is closed for good. A service's last step. */
  readonly closed: Effect.Effect<never, BusError>
}
