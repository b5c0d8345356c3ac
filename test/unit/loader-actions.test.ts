/** What carrying out a node's decisions asks of the plane: an association is made with its lease, or without any. */
import { expect, it } from "vitest"
import { KernelError } from "../../services/common/kernel/errors.ts"
import type { Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { carryOut } from "../../services/dataplane-loader/kernel-actions.ts"
import type { Rules } from "../../services/dataplane-loader/rules.ts"
import type { KernelAction } from "../../services/make/node-state.ts"

const rules = { edges: [{ edge: { id: "e:a:b" }, record: { index: 3 } }] } as unknown as Rules
const epoch = { term: 5n, n: 1n }
const at = { instance: "e:a:b", epoch } as const
const keys = (spi: number) => [
  { lane: 0, spi, key: new Uint8Array(32).fill(7), salt: new Uint8Array(4).fill(7) },
]
const lease = (deadlineBootNs = 900n): KernelAction => ({
  kind: "setLease",
  ...at,
  inbound: [256],
  outbound: [257],
  deadlineBootNs,
})

const played = (refused?: "out") => {
  const calls: string[] = []
  const install = (direction: string) => (sa: { spi: number; deadline: bigint }) => {
    if (direction === refused) throw new KernelError("install", "it", "E2BIG")
    calls.push(`${direction} ${sa.spi} until ${sa.deadline}`)
  }
  const plane = {
    installInbound: install("in"),
    installOutbound: install("out"),
    setLease: ({ direction, spi }: { direction: string; spi: number }, deadline: bigint) =>
      calls.push(`lease ${direction} ${spi} until ${deadline}`),
    retire: ({ direction, spi }: { direction: string; spi: number }) =>
      calls.push(`retire ${direction} ${spi}`),
  } as unknown as Plane
  return { plane, calls }
}

it("installs with the lease that the same decisions give", () => {
  const { plane, calls } = played()
  const [inbound, outbound] = [keys(256), keys(257)]
  const actions: KernelAction[] = [
    { kind: "installInbound", ...at, keys: inbound },
    { kind: "installOutbound", ...at, keys: outbound },
    lease(),
  ]
  expect(carryOut(plane, rules, actions)).toEqual([])
  expect(calls).toEqual(["in 256 until 900", "out 257 until 900"])
  for (const { key, salt } of [...inbound, ...outbound])
    expect([...key, ...salt].every((b) => b === 0)).toBe(true)
})

it("keeps no key that the kernel didn't take, or was never given", () => {
  const { plane } = played("out")
  const install = (instance: string): KernelAction[] => [
    { kind: "installInbound", instance, epoch, keys: keys(256) },
    { kind: "installOutbound", instance, epoch, keys: keys(257) },
  ]
  // The last of these edges is not in the workflow any more.
  const actions = [...install("e:a:b"), ...install("e:a:c")]
  carryOut(plane, rules, actions)
  const left = actions.flatMap((action) =>
    "keys" in action ? action.keys.flatMap(({ key, salt }) => [...key, ...salt]) : [],
  )
  expect(left.length).toBe(4 * 36)
  expect(left.every((byte) => byte === 0)).toBe(true)
})

it("installs without a lease when none is given, or only to another epoch", () => {
  const { plane, calls } = played()
  const other = { ...lease(), epoch: { term: 5n, n: 2n } }
  carryOut(plane, rules, [{ kind: "installInbound", ...at, keys: keys(256) }, other])
  expect(calls).toEqual(["in 256 until 1", "lease in 256 until 900", "lease out 257 until 900"])
})

it("sets leases of what is held, and after an install that failed", () => {
  const held = played()
  carryOut(held.plane, rules, [lease()])
  expect(held.calls).toEqual(["lease in 256 until 900", "lease out 257 until 900"])
  const { plane, calls } = played("out")
  const failures = carryOut(plane, rules, [
    { kind: "installInbound", ...at, keys: keys(256) },
    { kind: "installOutbound", ...at, keys: keys(257) },
    lease(),
  ])
  expect(failures.map(({ error }) => error.code)).toEqual(["E2BIG"])
  expect(calls).toEqual(["in 256 until 900", "lease out 257 until 900"])
})
