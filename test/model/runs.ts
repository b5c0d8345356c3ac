/** What is checked: the models as they are, and mutations that must be caught. */
export interface Run {
  readonly model: string
  readonly flags: ReadonlyArray<string>
  readonly says: string
}

export interface Mutation extends Run {
  /** The property that must break. */
  readonly breaks: string
}

const join = "make-join.pml"
const release = "make-release.pml"
const rotate = "make-rotate.pml"
const leader = "make-leader.pml"
const peers = "make-peers.pml"

/** Everything holds, in all states within the bounds. */
export const sound: ReadonlyArray<Run> = [
  { model: join, flags: [], says: "whoever is vouched for made the Evidence, lately, for this" },
  { model: join, flags: ["PROGRESS"], says: "a node is vouched for once it is left alone" },
  { model: release, flags: [], says: "secrets stay with the ends, keys end with their lease" },
  { model: release, flags: ["PROGRESS"], says: "both ends send, once they are left alone" },
  { model: rotate, flags: [], says: "rotations, and one end that begins a new session or loses keys" },
  {
    model: rotate,
    flags: ["RENEWALS_B=1", "ROTATIONS=1", "LOSSES=0", "SEQUENCES=5"],
    says: "both ends begin new sessions",
  },
  {
    model: rotate,
    flags: ["PROGRESS", "ROTATIONS=1", "LOSSES=0"],
    says: "rotations end, whatever was lost on the way",
  },
  {
    model: rotate,
    flags: ["PROGRESS", "ROTATIONS=0", "RENEWALS_A=0"],
    says: "an epoch that an end lost is replaced",
  },
  { model: leader, flags: [], says: "two leaders, one of which may die" },
  {
    model: leader,
    flags: ["PROGRESS", "RENEWALS_A=0", "RENEWALS_B=0"],
    says: "the edge is whole again under the leader that is left",
  },
  {
    model: leader,
    flags: ["EQUAL_TERMS", "LOSS_ALLOWED"],
    says: "two leaders with one term: no end sends under keys that the other has not got",
  },
  { model: peers, flags: [], says: "ends that appraise each other, over a control plane that lies" },
  // What is bound twice: either binding alone is enough. With a challenge less at verifier 0.
  { model: join, flags: ["DROP_REPORT_NODE", "SMALL"], says: "node id in the challenge alone" },
  { model: join, flags: ["DROP_CHALLENGE_NODE", "SMALL"], says: "node id in the report data alone" },
  { model: join, flags: ["DROP_REPORT_WORKFLOW", "SMALL"], says: "workflow digest in the offer alone" },
  { model: join, flags: ["DROP_OFFER_WORKFLOW", "SMALL"], says: "workflow digest in the report data alone" },
]

export const mutations: ReadonlyArray<Mutation> = [
  { model: join, flags: ["DROP_CHALLENGE"], says: "report data without V", breaks: "injective" },
  { model: join, flags: ["DROP_NONCE"], says: "control-plane Evidence without N", breaks: "recent" },
  {
    model: join,
    flags: ["DROP_REPORT_NODE", "DROP_CHALLENGE_NODE"],
    says: "node id neither in report data nor challenge",
    breaks: "agreement",
  },
  { model: join, flags: ["DROP_ROLE"], says: "report data without role and label", breaks: "agreement" },
  {
    model: join,
    flags: ["DROP_REPORT_WORKFLOW", "DROP_OFFER_WORKFLOW"],
    says: "workflow digest neither in report data nor offer",
    breaks: "agreement",
  },
  { model: join, flags: ["DROP_BEACON"], says: "result without the releaser's beacon", breaks: "recent" },
  { model: release, flags: ["RESULT_WITHOUT_KEYS"], says: "result without keys", breaks: "secrecy" },
  {
    model: release,
    flags: ["LEASE_FROM_RECEIPT"],
    says: "lease counted from receipt",
    breaks: "lease_bound",
  },
  { model: release, flags: ["DELTA"], says: "delta instead of full state", breaks: "lease_bound" },
  { model: release, flags: ["NO_CONFIRMATION"], says: "no key confirmation", breaks: "agreement" },
  {
    model: release,
    flags: ["PROGRESS", "NEVER_ASKS_AGAIN"],
    says: "a request that is not renewed",
    breaks: "progress",
  },
  {
    model: rotate,
    flags: ["NO_CONFIRMATION"],
    says: "no key confirmation while rotating",
    breaks: "agreement",
  },
  { model: rotate, flags: ["NO_SEQUENCE"], says: "an overtaken release is believed", breaks: "no_loss" },
  { model: rotate, flags: ["NO_TOMBSTONE"], says: "an epoch is installed again", breaks: "injective" },
  { model: rotate, flags: ["NO_GRACE"], says: "the old epoch goes at the switch", breaks: "no_loss" },
  {
    model: leader,
    flags: ["TERM_FROM_KV"],
    says: "term taken from the KV store alone",
    breaks: "bound_term",
  },
  {
    model: leader,
    flags: ["PROGRESS", "TERM_FROM_KV", "RENEWALS_A=0", "RENEWALS_B=0"],
    says: "a term of 2^53 in the KV store locks all leaders out",
    breaks: "progress",
  },
  {
    model: leader,
    flags: ["FLOOR_FROM_HELD"],
    says: "a node that remembers only the terms of what its kernel holds",
    breaks: "rising",
  },
  {
    model: leader,
    flags: ["EQUAL_TERMS"],
    says: "two leaders with one term, and every packet must arrive",
    breaks: "no_loss",
  },
  { model: peers, flags: ["DROP_CHIP"], says: "a peer on any machine", breaks: "secrecy" },
  { model: peers, flags: ["DROP_KEY"], says: "a proof without the key", breaks: "secrecy" },
  { model: peers, flags: ["DROP_NODE"], says: "a proof of any node", breaks: "agreement" },
  { model: peers, flags: ["DROP_SESSION"], says: "a proof of another session", breaks: "agreement" },
  {
    model: peers,
    flags: ["DROP_OWN_NONCE"],
    says: "a proof without the relying end's nonce",
    breaks: "recent",
  },
  { model: peers, flags: ["DROP_AGE"], says: "a proof over a nonce of any age", breaks: "recent" },
  { model: peers, flags: ["DROP_DOCUMENT"], says: "a proof under another document", breaks: "agreement" },
  {
    model: peers,
    flags: ["REMEMBER_OVER_DOCUMENTS"],
    says: "a verdict that outlives the document that it is under",
    breaks: "agreement",
  },
  { model: peers, flags: ["VERDICT_OF_ANYBODY"], says: "a verdict that names no node", breaks: "secrecy" },
]

export const nameOf = ({ model, flags }: Run): string => [model, ...flags].join(" ")
