/** Under `chip: any` refused Evidence ends a node only where it is of the machine that was vouched for before. */
import { Effect, Logger } from "effect"
import { describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { Bus, type BusShape } from "../../services/common/bus/bus.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { type EmulatedChip, EvidenceCaches, launchGuest } from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding } from "../../services/guest/appraise-node.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import { speaksOfNode } from "../../services/verifier/held.ts"
import { makeWithdrawals } from "../../services/verifier/withdrawals.ts"
import { answerTo, askedOf } from "../support/node-evidence.ts"
import { dataplane, hexOf, makeChip, makeRoot, measurement, now } from "./evidence-support.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const root = makeRoot()
const [own, foreign] = [makeChip(root), makeChip(root)]
const wrongImage = filled(48, 0xee)

const askedFor = (session: number, chip: "any" | { sev_snp: string }): Outstanding => {
  const document = parseWorkflow(
    stringify({
      workflow: "example",
      domain: "lab",
      version: 1,
      not_after: "2030-01-01T00:00:00Z",
      suite: "chacha20-poly1305",
      lease_seconds: 30,
      roots: [root.hardwareRoot],
      stages: {
        source: {
          assurance: "emulated",
          platforms: ["sev-snp"],
          sev_snp: {
            measurements: [hexOf(measurement)],
            policy: { debug: false, migration_agent: false, vmpl_max: 0 },
          },
          dataplane: [dataplane],
        },
      },
      nodes: [{ id: "n1", stage: "source", chip, address: "10.77.0.1", wire: "10.99.0.11" }],
      edges: [],
    }),
  )
  const change = { session: filled(16, session), releaser: "r1" }
  return askedOf({ document, digest: filled(32, 4) }, change)
}

const judge = (asked: Outstanding, chip: EmulatedChip, image = measurement) => {
  const { certificates } = chip
  const evidence = answerTo(asked, (reportData) => [
    {
      kind: "snp",
      report: launchGuest(chip, { measurement: image }).report(reportData),
      certificates: [...certificates],
    },
  ])
  const verifier = { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() }
  return { evidence, verdict: appraiseNode(verifier, evidence, asked, now) }
}

/** How many withdrawals are said when the node has been vouched for on its own machine, or not here, and this comes. */
const saidFor = async (
  pinned: "any" | { sev_snp: string },
  { vouched, of }: { readonly vouched: boolean; readonly of: EmulatedChip },
): Promise<number> => {
  let sent = 0
  const bus = {
    event: () => Effect.void,
    publish: () => Effect.sync(() => void sent++),
  } as unknown as BusShape
  const asked = askedFor(4, pinned)
  const { verdict } = judge(asked, of, wrongImage)
  if (verdict.accepted) throw new Error("accepted")
  expect(verdict.code).toBe("MEASUREMENT")
  expect(speaksOfNode(verdict)).toBe(true)
  await Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const withdrawals = yield* makeWithdrawals({
          crypto,
          key: crypto.ed25519.generate(),
          domain: "lab",
          instance: "v1",
          appraise: (evidence, asked) =>
            Effect.sync(() =>
              appraiseNode(
                { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() },
                evidence,
                asked,
                now,
              ),
            ),
          beacon: () => filled(32, 0xbe),
        })
        if (vouched) {
          const before = askedFor(3, pinned)
          const { evidence, verdict } = judge(before, own)
          if (!verdict.accepted) throw new Error(verdict.code)
          withdrawals.keep({ evidence, asked: before, verdict, at: now, digest: filled(32, 0x11) })
        }
        yield* withdrawals.refused(asked, verdict)
      }),
    ).pipe(Effect.provideService(Bus, bus), Effect.provide(Logger.layer([]))),
  )
  return sent
}

describe("refused Evidence of a node that may be any machine", () => {
  it("ends it where it is of the machine that was vouched for", async () => {
    expect(await saidFor("any", { vouched: true, of: own })).toBe(1)
  })

  it("ends nothing where it is of another machine, or of nobody knows which", async () => {
    expect(await saidFor("any", { vouched: true, of: foreign })).toBe(0)
    expect(await saidFor("any", { vouched: false, of: foreign })).toBe(0)
  })

  it("ends it on the machine that it is pinned to, also where another verifier has vouched for it", async () => {
    const pinned = { sev_snp: hexOf(own.chipId) }
    expect(await saidFor(pinned, { vouched: true, of: own })).toBe(1)
    expect(await saidFor(pinned, { vouched: false, of: own })).toBe(1)
  })
})
