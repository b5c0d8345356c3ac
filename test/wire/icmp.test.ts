/** An error message of a real kernel comes back through the tunnel to the application that caused it. */
import { execFileSync } from "node:child_process"
import { afterAll, expect, test } from "vitest"
import { UDP } from "../kernel/packets.ts"
import { connect, ip, workflowAddress } from "./space.ts"
import { makeWorld, newAssociation } from "./world.ts"

const world = makeWorld()
afterAll(() => world.end())

const ask = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b"is anybody there?")
try:
    print(s.recv(100))
except OSError as error:
    print(type(error).__name__)
`

test("nobody listens: the sender learns it at once", () => {
  const [one, two] = [world.space(), world.space()]
  ip("-n", one.name, "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", two.name)
  const [first, second] = [world.node(1, one), world.node(2, two)]
  const [forth, back] = [newAssociation(0x50_0001), newAssociation(0x50_0002)]
  connect(first, 2, { out: forth, in: back }, [{ port: 7000, protocol: UDP, role: 0 }])
  connect(second, 1, { out: back, in: forth }, [{ port: 7000, protocol: UDP, role: 1 }])
  const said = first.app.inside(() =>
    execFileSync("/usr/bin/python3", ["-c", ask, workflowAddress(2), "7000"], {
      encoding: "utf8",
      timeout: 10_000,
    }),
  )
  expect(said.trim()).toBe("ConnectionRefusedError")
  expect(first.counts()).toMatchObject({ SEALED: 1n, OPENED: 1n, DELIVERED: 1n, STRAY_ICMP: 0n })
  expect(second.counts()).toMatchObject({ SEALED: 1n, OPENED: 1n, DELIVERED: 1n, STRAY_ICMP: 0n })
})
