/** The lab's small parts: command line, names, network plan, undoing, events as lines, intruder frames, kernel versions. */
import { describe, expect, it } from "vitest"
import { payloadChecksum } from "../../infra/lab/checksum.ts"
import { createCleanup } from "../../infra/lab/cleanup.ts"
import { plain, sealedLooking } from "../../infra/lab/intruder.ts"
import { mayBeKilled } from "../../infra/lab/lab.ts"
import { nodePlace, runNames } from "../../infra/lab/names.ts"
import { planNetwork } from "../../infra/lab/network.ts"
import { parseOptions } from "../../infra/lab/options.ts"
import { kernelIsSupported } from "../../infra/lab/preflight.ts"
import { createNews, describeEvent } from "../../infra/lab/progress.ts"
import { ownerText, startTime } from "../../infra/lab/sweep.ts"
import { formatIpv6 } from "../../schemas/address.ts"
import type { Event } from "../../schemas/messages/event.ts"

describe("a service of the control plane that ends", () => {
  it("is no failure only where another stands by and somebody looks on", () => {
    expect(mayBeKilled({ controlPlanes: 2, attended: true })).toBe(true)
    expect(mayBeKilled({ controlPlanes: 2, attended: false })).toBe(false)
    expect(mayBeKilled({ controlPlanes: 2 })).toBe(false)
    expect(mayBeKilled({ controlPlanes: 1, attended: true })).toBe(false)
  })
})

describe("parseOptions", () => {
  it("takes its options in any order", () => {
    const options = { once: false, json: false, underlay: "ipv4", peers: "results", controlPlanes: 1 }
    expect(parseOptions([])).toEqual({ kind: "run", options })
    expect(parseOptions(["--json", "--once"])).toEqual({
      kind: "run",
      options: { ...options, once: true, json: true },
    })
    expect(parseOptions(["--underlay", "ipv6", "--once"])).toEqual({
      kind: "run",
      options: { ...options, once: true, underlay: "ipv6" },
    })
  })
  it.each(["--onc", "once", "-1", "--once=1", ""])("refuses %j", (argument) => {
    expect(parseOptions(["--json", argument])).toEqual({ kind: "wrong", argument })
  })
  it("knows two ways to know peers", () => {
    expect(parseOptions(["--peers", "evidence"])).toMatchObject({ options: { peers: "evidence" } })
    expect(parseOptions(["--peers", "hearsay"])).toEqual({ kind: "wrong", argument: "--peers hearsay" })
    expect(parseOptions(["--peers"])).toEqual({ kind: "wrong", argument: "--peers" })
  })
  it("has one control plane or two", () => {
    expect(parseOptions(["--control-planes", "2"])).toMatchObject({ options: { controlPlanes: 2 } })
    expect(parseOptions(["--control-planes", "3"])).toEqual({
      kind: "wrong",
      argument: "--control-planes 3",
    })
  })
  it("knows two underlays", () => {
    expect(parseOptions(["--underlay", "ipx"])).toEqual({ kind: "wrong", argument: "--underlay ipx" })
    expect(parseOptions(["--underlay"])).toEqual({ kind: "wrong", argument: "--underlay" })
    expect(parseOptions(["--underlay", "--once"])).toEqual({ kind: "wrong", argument: "--underlay --once" })
  })
  it("knows --help", () => {
    expect(parseOptions(["--once", "--help"])).toEqual({ kind: "help" })
  })
})

describe("runNames", () => {
  it("puts the run's id into everything", () => {
    const names = runNames("123")
    expect(names.netns("n1-app")).toBe("vs-123-n1-app")
    expect(names.netnsPath("n1-app")).toBe("/run/netns/vs-123-n1-app")
    expect(names.directory).toBe("/run/vouchsafe-123")
    expect(names.pins("n1")).toBe("/sys/fs/bpf/vouchsafe-123/n1")
  })
  it.each(["", "0", "-1", "1/../..", "12 3", "01"])("refuses %j, which would name something else", (id) => {
    expect(() => runNames(id)).toThrow(/not a run id/)
  })
})

describe("planNetwork", () => {
  const names = runNames("7")
  const nodes = ["n1", "n2"].map((id, i) => nodePlace(id, i + 1))
  const plan = planNetwork(names, nodes)

  it("gives each node two namespaces, and the wire and the bus one each", () => {
    expect([...plan.namespaces].sort()).toEqual(
      ["bridge", "bus", "n1-app", "n1-wire", "n2-app", "n2-wire"].map((part) => names.netns(part)),
    )
    expect(plan.scripts.map(({ ns }) => ns).sort()).toEqual([...plan.namespaces].sort())
  })
  it("connects an application namespace to nothing but its node's own", () => {
    const touching = plan.create.filter((line) => line.includes("vs-7-n1-app") && line.startsWith("link"))
    expect(touching).toHaveLength(1)
    expect(touching[0]).toContain("peer name m1 netns vs-7-n1-wire")
  })
  it("silences IPv6 before any device goes up", () => {
    for (const { script } of plan.scripts) {
      const off = script.indexOf("disable_ipv6")
      expect(off).toBeGreaterThanOrEqual(0)
      expect(off).toBeLessThan(script.search(/\bup\b/))
    }
  })
  it("gives the sealer finished packets of at most one MTU", () => {
    const app = plan.scripts.find(({ ns }) => ns === "vs-7-n1-app")?.script ?? ""
    expect(app).toContain("tso off gso off sg off tx off")
    expect(app).toContain("mtu 1438 arp off addrgenmode none")
    expect(app).toContain("route add 10.77.0.0/24 dev m0 src 10.77.0.1")
    expect(app).toContain("route add fd77::/64 dev m0 src fd77::1")
  })
  it("has IPv6 on the wire only where it is asked for, and then leaves room for its longer header", () => {
    const script = (of: typeof plan, ns: string): string =>
      of.scripts.find((one) => one.ns === `vs-7-${ns}`)?.script ?? ""
    const six = planNetwork(
      names,
      ["n1", "n2"].map((id, i) => nodePlace(id, i + 1, "ipv6")),
      "ipv6",
    )
    for (const ns of ["bus", "n1-wire", "n2-wire"]) {
      expect(script(plan, ns)).not.toContain("echo 0 >disable_ipv6")
      expect(script(six, ns)).toContain("cd /proc/sys/net/ipv6/conf/wire0\n")
      expect(script(six, ns)).not.toContain("10.99.0.")
    }
    expect(script(six, "n2-wire")).toContain("addr add 2001:db8:99::12/64 dev wire0 nodad")
    expect(script(six, "n1-app")).toContain("mtu 1418 arp off")
    expect([plan.reporting.length, six.reporting.length]).toEqual([0, 3])
  })
  it("never gives two nodes the same address", () => {
    const all = nodes.flatMap((n) => [n.address, n.address6, n.wire, n.wireMac, n.innerMac])
    expect(new Set(all).size).toBe(all.length)
  })
})

describe("createCleanup", () => {
  it("undoes in reverse, past failures, and only once", async () => {
    const cleanup = createCleanup()
    const done: string[] = []
    cleanup.add("first", () => void done.push("first"))
    cleanup.add("bad", () => Promise.reject(new Error("no")))
    cleanup.add("last", async () => void done.push("last"))
    const [failures, again] = await Promise.all([cleanup.run(), cleanup.run()])
    expect(done).toEqual(["last", "first"])
    expect(failures).toEqual(["bad: no"])
    expect(again).toBe(failures)
  })
})

describe("progress", () => {
  const event = (type: Event["type"], data: Event["data"]): Event => ({
    v: 1,
    specversion: "1.0",
    id: "1",
    source: "/vouchsafe/x",
    type,
    time: "2026-11-23T00:00:00Z",
    data,
  })

  it("says who was accepted, by what, and that it is emulated", () => {
    const data = {
      node: "n1",
      stage: "source",
      platform: "sev-snp Milan",
      emulated: true,
      dataplane: "3f2a".repeat(24),
    }
    expect(describeEvent("verifier-v1", event("vouchsafe.attestation.accepted", data))).toBe(
      "n1 accepted as source: sev-snp Milan (EMULATED), data plane 3f2a3f2a3f2a",
    )
  })
  it("says why a node was refused", () => {
    const data = { node: "n4", code: "DATAPLANE", field: "dataplane", message: "found a, wanted b" }
    expect(describeEvent("verifier-v1", event("vouchsafe.attestation.refused", data))).toBe(
      "n4 REFUSED: DATAPLANE: found a, wanted b",
    )
  })
  it("has words for an event that it has none of its own for", () => {
    const data = { node: "n1", edge: "raw:n1:n2", code: "X", message: "why" }
    expect(describeEvent("releaser-r1", event("vouchsafe.lease.over", data))).toBe(
      "releaser-r1 lease.over n1 raw (n1 -> n2): X: why",
    )
  })
  it("says a thing once, on one line that can't move the cursor", () => {
    const news = createNews()
    const hostile = event("vouchsafe.message.refused", { code: "BAD", message: "a\r\nb\u001b[2J" })
    const line = news("loader-n1", hostile) ?? ""
    expect(Array.from(line).every((c) => c >= " ")).toBe(true)
    expect(news("loader-n1", hostile)).toBeUndefined()
    expect(news("loader-n2", hostile)).toBeDefined()
  })
  it("bounds a line", () => {
    const long = event("vouchsafe.message.refused", { code: "BAD", message: "word ".repeat(100) })
    expect(createNews()("x", long)?.length).toBe(160)
  })
})

describe("intruder", () => {
  const [a, b] = [nodePlace("n4", 4), nodePlace("n1", 1)]
  const tag = Buffer.alloc(16, 7)

  it("makes frames that a router would take: lengths and header checksum are right", () => {
    for (const frame of [sealedLooking(a, b, 0x1234, tag), plain(a, b, 5000, tag)]) {
      expect(frame.readUInt16BE(16)).toBe(frame.length - 14)
      expect(frame.readUInt16BE(38)).toBe(frame.length - 34)
      let sum = 0
      for (let i = 14; i < 34; i += 2) sum += frame.readUInt16BE(i)
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
      expect(sum).toBe(0xffff)
      expect(frame.includes(tag)).toBe(true)
      expect(frame.subarray(0, 6).toString("hex")).toBe("027673000101")
    }
  })
  it("does so on an IPv6 wire too, and says its plain words in IPv6 there", () => {
    const [c, d] = [nodePlace("n4", 4, "ipv6"), nodePlace("n1", 1, "ipv6")]
    for (const frame of [sealedLooking(c, d, 0x1234, tag), plain(c, d, 5000, tag)]) {
      expect(frame.readUInt16BE(12)).toBe(0x86dd)
      expect(frame.readUInt16BE(18)).toBe(frame.length - 54)
      expect(frame.readUInt16BE(58)).toBe(frame.length - 54)
      expect(payloadChecksum(frame.subarray(22, 54), 17, frame.subarray(54))).toBe(0)
      expect(frame.includes(tag)).toBe(true)
    }
    expect(formatIpv6(plain(c, d, 5000, tag).subarray(38, 54))).toBe("fd77::1")
    expect(formatIpv6(sealedLooking(c, d, 0x1234, tag).subarray(38, 54))).toBe("2001:db8:99::11")
  })
  it("makes ESP that is aligned and names the SPI", () => {
    const frame = sealedLooking(a, b, 0x0bad0001, tag)
    expect(frame.readUInt32BE(42)).toBe(0x0bad0001)
    expect((frame.length - 42 - 8 - 8 - 16) % 4).toBe(0)
  })
})

describe("preflight", () => {
  it.each([
    ["6.1.0-50-amd64", true],
    ["6.18.44-fc-v669", true],
    ["10.0.1", true],
    ["6.0.19", false],
    ["5.15.0", false],
    ["2.6.78", false],
    ["garbage", false],
  ])("kernel %s: %s", (text, supported) => {
    expect(kernelIsSupported(text)).toBe(supported)
  })
})

describe("sweep", () => {
  it("tells this process from another of the same id by when it was started", () => {
    expect(startTime(process.pid)).toMatch(/^\d+$/)
    expect(startTime(0)).toBeUndefined()
    expect(ownerText(process.pid)).toBe(`${process.pid} ${startTime(process.pid)}`)
  })
})
