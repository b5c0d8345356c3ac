import { MakeError } from "../../services/make/errors.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { Ack, EdgeRelease } from "../../services/make/release.ts"
import type { Releaser, ReleaserOutput } from "../../services/make/releaser.ts"
import {
  type Attested,
  attest,
  bootNs,
  newNode,
  newReleaser,
  opened,
  releasesIn,
  vouch,
} from "../support/make-lab.ts"

export const LEASE_MS = 30_000

export let releaser: Releaser
export let log: Array<ReleaserOutput>
export let nodes: Map<string, { attested: Attested; state: NodeState }>

/** Another releaser in the place of the present one. */
export const begin = (change?: Parameters<typeof newReleaser>[0]): void => {
  releaser = newReleaser(change)
}

/** Before each test: a releaser that nobody knows yet. */
export const beginAnew = (): void => {
  begin()
  log = []
  nodes = new Map()
}

export const join = (name: string, nowMs = 0, change: Parameters<typeof attest>[2] = {}): Attested => {
  const attested = attest(name, releaser.beacon(nowMs), change)
  log.push(...releaser.accept(attested.result, nowMs))
  const state = newNode(attested)
  state.followTerm(5n)
  nodes.set(name, { attested, state })
  return attested
}

export const pull = (name: string, nowMs = 0): ReadonlyArray<ReleaserOutput> => {
  const { attested, state } = nodes.get(name) ?? fail(name)
  const nonce = state.ask(bootNs(nowMs))
  const { session } = attested.result.claims
  const kem_key = attested.kemSecret.publicKey
  const outputs = releaser.pull({ node: name, session, nonce, kem_key }, nowMs)
  log.push(...outputs)
  return outputs
}

export const fail = (what: string): never => {
  throw new Error(what)
}

/** Hands everything over at once until nobody has anything to say. `meddle` may change an acknowledgement. */
export const settle = (
  first: ReadonlyArray<ReleaserOutput>,
  nowMs = 0,
  meddle: (ack: Ack) => Ack = (ack) => ack,
) => {
  let outputs = first
  for (let rounds = 0; outputs.length > 0; rounds++) {
    if (rounds > 12) return
    const next: Array<ReleaserOutput> = []
    for (const release of releasesIn(outputs)) {
      const { state } = nodes.get(release.node) ?? fail(release.node)
      state.accept(opened(release), vouch)
      const ack = state.acknowledgement()
      // The last release to a node whose result ended by this very acknowledgement is not answered.
      const stays = releaser.vouched().some(({ node }) => node === release.node)
      if (ack !== undefined && stays) next.push(...releaser.ack(meddle(ack), nowMs))
    }
    log.push(...next)
    outputs = next
  }
}

export const edgesOf = (outputs: ReadonlyArray<ReleaserOutput>, name: string): ReadonlyArray<EdgeRelease> =>
  releasesIn(outputs).findLast(({ node }) => node === name)?.payload.edges ?? []

/** alpha and beta, both edges between them in use. */
export const established = (nowMs = 0) => {
  join("alpha", nowMs)
  join("beta", nowMs)
  settle(pull("alpha", nowMs), nowMs)
  settle(pull("beta", nowMs), nowMs)
}

export const current = (instance: string) =>
  releaser.edges().find((edge) => edge.instance === instance)?.current

export const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
  return "accepted"
}
