/** A peer whose address on the wire changes under way: who it talks to follows, without a word from anybody. */
import { afterAll, expect, test } from "vitest"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { answerTo, echoOf, startEcho } from "../kernel/datagrams.ts"
import { UDP } from "../kernel/packets.ts"
import { BUS, connect, ESP_PORT, ip, type Node, workflowAddress } from "./space.ts"
import { makeWorld, newAssociation } from "./world.ts"

const world = makeWorld()
afterAll(() => world.end())
const [FORTH, BACK] = [7000, 7001]

/** What the echo at another node's port answers. */
const answered = (from: Node, to: number, port: number): string =>
  from.app.inside(() => answerTo(workflowAddress(to), port, `to ${to}`))

test("a node gets another address and speaks: answers and new flows find it there", async () => {
  const [one, two] = [world.space(), world.space()]
  ip("-n", one.name, "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", two.name)
  const [first, second] = [world.node(1, one), world.node(2, two)]
  const [forth, back] = [newAssociation(0x60_0001), newAssociation(0x60_0002)]
  const rules = (role: 0 | 1) => [
    { port: FORTH, protocol: UDP, role },
    { port: BACK, protocol: UDP, role: role === 0 ? (1 as const) : (0 as const) },
  ]
  connect(first, 2, { out: forth, in: back }, rules(0))
  connect(second, 1, { out: back, in: forth }, rules(1))
  for (const [node, port] of [
    [second, FORTH],
    [first, BACK],
  ] as const) {
    const { child, ready } = node.app.inside(() => startEcho(port))
    world.later(() => child.kill())
    await ready
  }
  expect([answered(first, 2, FORTH), answered(second, 1, BACK)]).toEqual(["to 2", "to 1"])

  ip("-n", two.name, "addr", "del", "192.0.2.2/24", "dev", "wire0")
  ip("-n", two.name, "addr", "add", "192.0.2.77/24", "dev", "wire0")
  second.plane.configure({
    innerAddress: parseIpv4(workflowAddress(2)),
    wireAddress: parseIpv4("192.0.2.77"),
    busAddress: parseIpv4(BUS.address),
    busPort: BUS.port,
    espPort: ESP_PORT,
    innerMac: second.app.inside(() => macOf("m0")),
  })
  const lost = first.app.inside(() => echoOf(workflowAddress(2), FORTH, "to 2"))
  expect(lost, "nobody has told the first where the second is").toBe("")
  expect(answered(second, 1, BACK)).toBe("to 1")
  expect(answered(first, 2, FORTH)).toBe("to 2")
})
