/** Whoever fills the store with what a vendor has signed for the asking keeps nothing out that others rest on. */
import { beforeAll, expect, it } from "vitest"
import { emptySnapshot, type Offered, offer } from "../../services/evidence/collateral/snapshot.ts"
import { Hierarchy, now } from "../support/tdx-lab.ts"
import { SnpHierarchy } from "./evidence-snp-support.ts"

let amd: SnpHierarchy
const intel = new Hierarchy()
beforeAll(() => {
  amd = new SnpHierarchy()
}, 120_000)

const offered = (bytes: Uint8Array): Offered => ({ name: "x", source: "bucket", bytes })
const rules = () => ({ now, roots: { amd: [amd.root], intel: [intel.root] } })

/** What a bucket can be filled with: AMD signs a certificate for each chip and TCB that it is asked for. */
const flooded = () => {
  const { snapshot } = offer(emptySnapshot, amd.chain().map(offered), rules())
  const vcek = [...snapshot.held.values()].find(({ item }) => item.key.startsWith("amd-vcek-"))
  if (vcek === undefined) throw new Error("no certificate of a chip")
  const others = [...snapshot.held].filter(([, one]) => one !== vcek)
  const many = Array.from({ length: 1_792 }, (_, i) => {
    const key = `amd-vcek-${i}`
    return [key, { ...vcek, item: { ...vcek.item, key } }] as const
  })
  return { held: new Map([...others, ...many]) }
}

it("AMD's list and Intel's TCB levels still find room, another chip doesn't", () => {
  const full = flooded()
  const { outcomes } = offer(full, amd.chain().map(offered), rules())
  expect(outcomes.filter(({ outcome }) => outcome === "refused")).toMatchObject([{ code: "TOO_MANY" }])
  const [, ca, root] = intel.chain()
  const { tcbInfo, qeIdentity, rootCrl, pckCrl, tcbSigningChain } = intel.collateral()
  const all = [amd.crl(), root, ca, tcbSigningChain, tcbInfo, qeIdentity, rootCrl, pckCrl]
  const { outcomes: others } = offer(
    full,
    all.flatMap((one) => (one ? [offered(one)] : [])),
    rules(),
  )
  expect(others.map(({ outcome, code }) => code ?? outcome)).toEqual(all.map(() => "new"))
})
