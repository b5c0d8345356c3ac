/** What the init bench and its processes with nodes say to each other. */
export interface WorkerOrder {
  readonly url: string
  readonly prefix: string
  /** Holds seeds/ and guests/. */
  readonly directory: string
  readonly anchors: string
  readonly object: string
  /** Hex, of the data plane. */
  readonly dataplane: string
  readonly mapsOnDemand: boolean
  /** Where a CPU profile of the rounds goes, if anywhere. */
  readonly profile: string | undefined
  readonly nodes: ReadonlyArray<string>
}

/** The first packet of an edge, on the wire from its initiator to its responder. */
export interface FirstPacket {
  readonly edge: string
  readonly to: string
  readonly base64: string
}

/** An edge whose first packet its responder has no key for any more: it asks the initiator for another. */
export interface AskedAgain {
  readonly edge: string
  readonly to: string
}

/** What nodes have for those of other processes. */
export type ForPeers =
  | { readonly kind: "open"; readonly packets: ReadonlyArray<FirstPacket> }
  | { readonly kind: "seal"; readonly edges: ReadonlyArray<AskedAgain> }

export type ToWorker = { readonly kind: "prepare" | "start" | "steady" | "rest" | "end" } | ForPeers

/** When a node had what it asked for, in ms of CLOCK_MONOTONIC. */
export interface NodeTimes {
  /** The control plane's offer. */
  hello: number
  /** Its own Evidence. */
  attest: number
  /** Its result. */
  evidence: number
  /** Its first release. */
  release: number
  /** Each of its edges has come into use. */
  active: number
  /** And the first packets of those that others initiate, let in. */
  first: number
  /** How many releases it was sent until then. */
  releases: number
}

/** How many first packets were let in, and what sending and letting in took of the CPU. */
export interface Tried {
  readonly packets: number
  /** How often an edge was no more in use when its packet was to be sealed or opened, and was tried again. */
  readonly again: number
  readonly cpuMs: number
}

export type FromWorker =
  | { readonly kind: "ready" | "rested" }
  | { readonly kind: "knows"; readonly version: number }
  | { readonly kind: "prepared"; readonly rssMb: number }
  | {
      readonly kind: "done"
      readonly nodes: ReadonlyArray<NodeTimes & { readonly id: string }>
      readonly tried: Tried
    }
  | ForPeers
  | { readonly kind: "failed"; readonly message: string }
