import { describe, expect, it } from "vitest"
import type { Stage, Workflow } from "../../schemas/workflow.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { protocolWorkflow } from "../../services/guest/protocol-workflow.ts"
import { compileNode, compileWorkflow } from "../../services/make/edges.ts"
import { Heritage } from "../../services/make/heritage.ts"
import { forbiddenNodes, revokedNodes, standingStage } from "../../services/make/standing.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"

const value = (byte: string, bytes = 48): string => byte.repeat(bytes)
const [OLD, NEW, PLANE, PCR] = [value("0a"), value("0b"), value("0c"), value("0d", 32)]
const END = "2026-12-01T00:00:00Z"
const NOW = Date.parse("2026-11-01T00:00:00Z")

const source: Stage = {
  assurance: "emulated",
  platforms: ["sev-snp"],
  sev_snp: { measurements: [OLD, NEW], policy: { debug: false, migration_agent: false, vmpl_max: 0 } },
  dataplane: [PLANE],
}
const either: Stage = {
  assurance: "emulated",
  platforms: ["sev-snp", "tpm"],
  sev_snp: { measurements: [OLD], policy: { debug: false, migration_agent: false, vmpl_max: 0 } },
  tpm: { bank: "sha256", pcrs: { 4: [PCR] } },
  dataplane: [PLANE],
}
const chipOf = (byte: string) => ({ sev_snp: value(byte, 64) })
const document = (change: Partial<Workflow> = {}): Workflow => ({
  workflow: "w",
  domain: "lab",
  version: 1,
  not_after: END,
  suite: "xwing-chacha20-poly1305",
  lease_seconds: 30,
  roots: [
    { vendor: "amd", product: "Milan", key_digest: value("aa", 32), emulated: true },
    { vendor: "tpm", use: "issuer", key_digest: value("ab", 32), emulated: true },
  ],
  stages: { source, sink: either },
  nodes: [
    { id: "a", stage: "source", chip: chipOf("01"), address: "10.0.0.1", wire: "10.1.0.1" },
    { id: "b", stage: "source", chip: "any", address: "10.0.0.2", wire: "10.1.0.2" },
    { id: "c", stage: "sink", chip: chipOf("03"), address: "10.0.0.3", wire: "10.1.0.3" },
  ],
  edges: [{ id: "e", from: "source", to: "sink", protocol: "tcp", port: 80, lanes: 1 }],
  ...change,
})

describe("what stands of a document", () => {
  it("takes old and new side by side until the old one's time is over", () => {
    const stage = { ...source, until: { [OLD]: END } }
    const at = (ms: number) => standingStage(document(), stage, ms).sev_snp?.measurements
    expect(at(NOW)).toEqual([OLD, NEW])
    expect(at(Date.parse(END) - 1)).toEqual([OLD, NEW])
    expect(at(Date.parse(END))).toEqual([NEW])
  })

  it("takes no revoked value, wherever a stage lists it, and leaves everything else", () => {
    const revoked = { measurements: [OLD, PCR, PLANE] }
    expect(standingStage(document({ revoked }), source, NOW)).toEqual({
      ...source,
      sev_snp: { ...source.sev_snp, measurements: [NEW] },
      dataplane: [],
    })
    expect(standingStage(document({ revoked }), either, NOW).tpm).toEqual({ bank: "sha256", pcrs: { 4: [] } })
  })

  it("revokes nodes by id, by their chip, and with all that their stage takes", () => {
    const gone = (revoked: Workflow["revoked"]) => [...revokedNodes(document(revoked && { revoked }))].sort()
    expect(gone(undefined)).toEqual([])
    expect(gone({ nodes: ["a", "long-gone"] })).toEqual(["a", "long-gone"])
    expect(gone({ chips: [chipOf("03")] })).toEqual(["c"])
    expect(gone({ measurements: [NEW] })).toEqual([])
    expect(gone({ measurements: [OLD, NEW] })).toEqual(["a", "b"])
    // The other platform is left.
    expect(gone({ measurements: [PCR] })).toEqual([])
    expect(gone({ measurements: [OLD, PCR] })).toEqual(["c"])
    expect(gone({ measurements: [PLANE] })).toEqual(["a", "b", "c"])
  })

  it("compiles no edge of a revoked node, at no node", () => {
    const compiled = (revoked?: Workflow["revoked"]) => {
      const verified = { document: document(revoked && { revoked }), digest: new Uint8Array(32) }
      const workflow = protocolWorkflow(verified)
      return {
        all: compileWorkflow(workflow).map(({ id }) => id),
        atC: compileNode(workflow, "c").map(({ id }) => id),
        atA: compileNode(workflow, "a").map(({ id }) => id),
      }
    }
    expect(compiled().all).toEqual(["e:a:c", "e:b:c"])
    expect(compiled({ chips: [chipOf("01")] })).toEqual({ all: ["e:b:c"], atC: ["e:b:c"], atA: [] })
  })

  it("says of a result whether its node may stay", () => {
    const vouched = {
      node: "a",
      stage: "source",
      chip: Uint8Array.from(Buffer.from(value("01", 64), "hex")),
      dataplane: Uint8Array.from(Buffer.from(PLANE, "hex")),
    }
    const forbidden = (change: Partial<Workflow>, of: object = {}) =>
      forbiddenNodes(document(change), [{ ...vouched, ...of }], NOW).length === 1
    expect(forbidden({})).toBe(false)
    expect(forbidden({ revoked: { nodes: ["a"] } })).toBe(true)
    expect(forbidden({ revoked: { measurements: [PLANE] } })).toBe(true)
    expect(forbidden({ nodes: document().nodes.slice(1) })).toBe(true)
    expect(forbidden({}, { stage: "sink" })).toBe(true)
    expect(forbidden({}, { chip: new Uint8Array(64).fill(2) })).toBe(true)
    // A node that may be any machine, on a revoked one.
    expect(
      forbidden({ revoked: { chips: [chipOf("02")] } }, { node: "b", chip: new Uint8Array(64).fill(2) }),
    ).toBe(true)
    // An enclave, by its instance; another instance whose name only begins alike is not meant.
    const enclave = {
      node: "b",
      chip: Uint8Array.from(Buffer.from("i-0123456789abcdef0-enc0123456789abcdef")),
    }
    const nitro = (id: string) => ({ revoked: { chips: [{ nitro: id }] } })
    expect(forbidden(nitro("i-0123456789abcdef0"), enclave)).toBe(true)
    expect(forbidden(nitro("i-0123456789abcdef"), enclave)).toBe(false)
  })
})

describe("a node whose value the next document doesn't take, while its stage takes others", () => {
  const bytesOf = (text: string) => Uint8Array.from(Buffer.from(text, "hex"))
  const vouched = (...values: ReadonlyArray<string>) => ({
    node: "a",
    stage: "source",
    chip: bytesOf(value("01", 64)),
    dataplane: bytesOf(PLANE),
    values: values.map(bytesOf),
  })
  const forbidden = (change: Partial<Workflow>, shown: ReadonlyArray<string>, before = document()) =>
    forbiddenNodes(document(change), [vouched(...shown)], NOW, before).length === 1
  const sourceWith = (change: object) => ({ stages: { source: { ...source, ...change }, sink: either } })

  it("stops with it: revoked, left out, or past its time", () => {
    const revoked = { measurements: [OLD] }
    expect(forbidden({ revoked }, [OLD])).toBe(true)
    expect(forbidden({ revoked }, [NEW])).toBe(false)
    // Whatever became of the list that named it.
    expect(forbiddenNodes(document({ revoked }), [vouched(OLD)], NOW)).toEqual(["a"])
    const left = sourceWith({ sev_snp: { ...source.sev_snp, measurements: [NEW] }, until: {} })
    expect(forbidden(left, [OLD])).toBe(true)
    expect(forbidden(left, [NEW])).toBe(false)
    const over = sourceWith({ until: { [OLD]: new Date(NOW - 1_000).toISOString().replace(/\.\d+Z$/, "Z") } })
    expect(forbidden(over, [OLD])).toBe(true)
    expect(forbidden(over, [NEW])).toBe(false)
  })

  it("stays when nothing is asked of that value any more, and goes with a whole kind of evidence", () => {
    const host = value("aa", 32)
    const before = document(sourceWith({ sev_snp: { ...source.sev_snp, host_data: [host] } }))
    expect(forbidden({}, [NEW, host], before)).toBe(false)
    const { sev_snp: _, ...rest } = source
    expect(forbidden({ stages: { source: rest as typeof source, sink: either } }, [NEW])).toBe(true)
  })
})

describe("a document that revokes many machines", () => {
  it("has each of them looked at once, however many results are judged by it", () => {
    let looks = 0
    const counted = (chip: { sev_snp: string }) =>
      new Proxy(chip, {
        ownKeys: (target) => {
          looks++
          return Reflect.ownKeys(target)
        },
      })
    const nodes = Array.from({ length: 1_024 }, (_, i) => ({
      id: `n${i}`,
      stage: "source",
      chip: { sev_snp: i.toString(16).padStart(128, "0") },
      wire: "10.1.0.1",
    }))
    const chips = Array.from({ length: 100 }, (_, i) =>
      counted({ sev_snp: (i * 10).toString(16).padStart(128, "0") }),
    )
    const many = document({ nodes, revoked: { chips } })
    const claims = nodes.map(({ id, chip }) => ({
      node: id,
      stage: "source",
      chip: Uint8Array.from(Buffer.from(chip.sev_snp, "hex")),
      values: [Uint8Array.from(Buffer.from(NEW, "hex"))],
    }))
    const heritage = new Heritage(
      crypto,
      [1n, 2n, 3n, 4n].flatMap((term) =>
        claims.map((one) => ({
          claims: one as never,
          digest: new Uint8Array(32),
          signer: new Uint8Array(32),
          document: document(),
          term,
          untilMs: 1_000,
          ended: false,
        })),
      ),
    )
    expect(heritage.judge(many, NOW)).toEqual(Array.from({ length: 100 }, (_, i) => `n${i * 10}`))
    expect(looks).toBe(100)
    expect(forbiddenNodes(many, claims, NOW)).toHaveLength(100)
    expect(revokedNodes(many).size).toBe(100)
    expect(looks).toBe(100)
    expect(heritage.all().filter(({ ended }) => ended)).toHaveLength(400)
    expect(heritage.ended(0).get("n10")).toBe(4n)
  })
})

describe("a document", () => {
  const codeOf = (change: object): string => {
    try {
      parseWorkflow(JSON.stringify({ ...document(), ...change }))
      return "sound"
    } catch (error) {
      return (error as { code: string; field: string }).field
    }
  }
  it("may name times only for what it lists, and revoke only what can be meant", () => {
    expect(codeOf({ stages: { source: { ...source, until: { [OLD]: END } }, sink: either } })).toBe("sound")
    expect(codeOf({ stages: { source: { ...source, until: { [PCR]: END } }, sink: either } })).toBe(
      "stages.source.until",
    )
    const wrong = { [OLD]: "2026-13-01T00:00:00Z" }
    expect(codeOf({ stages: { source: { ...source, until: wrong }, sink: either } })).toBe(
      "stages.source.until",
    )
    expect(codeOf({ revoked: { nodes: ["a", "a"] } })).toBe("revoked.nodes")
    expect(codeOf({ revoked: { chips: [{}] } })).toBe("revoked.chips")
    expect(codeOf({ revoked: { measurements: ["AB"] } })).not.toBe("sound")
    expect(codeOf({ revoked: { nodse: [] } })).not.toBe("sound")
  })
})
