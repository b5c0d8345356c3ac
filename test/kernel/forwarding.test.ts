/** The kernel must not route between the internal veth and the wire, whatever the machine's settings are. */
import { readFileSync, writeFileSync } from "node:fs"
import { afterAll, beforeAll, expect, test } from "vitest"
import { forbidForwarding } from "../../services/dataplane-loader/dataplane/forwarding.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"

let space: TestNamespace
beforeAll(() => {
  space = makeNamespace()
})
afterAll(() => space.remove())

const of = (family: string, device: string) => `/proc/sys/net/${family}/conf/${device}/forwarding`
const read = (path: string) => readFileSync(path, "utf8").trim()

test("turns forwarding off for the device, IPv4 and IPv6, and leaves others as they are", () => {
  space.inside(() => {
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1")
    writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    expect([read(of("ipv4", "m1")), read(of("ipv6", "m1"))]).toEqual(["1", "1"])
    forbidForwarding("m1")
    expect([read(of("ipv4", "m1")), read(of("ipv6", "m1"))]).toEqual(["0", "0"])
    expect(read(of("ipv4", "far0"))).toBe("1")
  })
})

test("is content with a device that doesn't forward, and with one that isn't there", () => {
  space.inside(() => {
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "0")
    forbidForwarding("m1")
    forbidForwarding("nosuch0")
    expect(read(of("ipv4", "m1"))).toBe("0")
  })
})
