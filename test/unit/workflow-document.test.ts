import { describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { crypto, type SecretKey } from "../../services/common/crypto/index.ts"
import {
  parseWorkflow,
  verifyWorkflow,
  WorkflowError,
  workflowSigningBytes,
} from "../../services/make/workflow-document.ts"

const hex = (length: number, byte: string) => byte.repeat(length)
const stage = {
  assurance: "emulated",
  platforms: ["sev-snp"],
  sev_snp: {
    measurements: [hex(48, "ab")],
    policy: { debug: false, migration_agent: false, vmpl_max: 0 },
  },
  dataplane: [hex(48, "cd")],
}
const document = {
  workflow: "example",
  domain: "lab",
  version: 3,
  not_after: "2027-01-01T00:00:00Z",
  suite: "chacha20-poly1305",
  lease_seconds: 30,
  roots: [{ vendor: "amd", product: "Milan", key_digest: hex(32, "01"), emulated: true }],
  stages: { source: stage, sink: stage },
  nodes: [
    { id: "n1", stage: "source", chip: { sev_snp: hex(64, "02") }, address: "10.77.0.1", wire: "10.99.0.11" },
    { id: "n2", stage: "sink", chip: "any", address: "10.77.0.2", wire: "10.99.0.12" },
  ],
  edges: [{ id: "raw", from: "source", to: "sink", protocol: "tcp", port: 5000, lanes: 1 }],
}
type Document = typeof document

const text = (change: (copy: Document) => unknown = () => undefined): string => {
  const copy = structuredClone(document)
  change(copy)
  return stringify(copy, { aliasDuplicateObjects: false })
}

const plainTpm = { bank: "sha256", pcrs: { 7: [hex(32, "01")] } }
const akRoot = { vendor: "tpm", use: "ak", key_digest: hex(32, "09"), emulated: false }

/** The source's stage says only this of machines. */
const stageOf = (d: Document, demands: object): void => {
  Object.assign(d.nodes[0] ?? {}, { chip: "any" })
  Object.assign(d.stages, { source: { dataplane: d.stages.source.dataplane, ...demands } })
}

const refusal = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof WorkflowError) return `${error.code} ${error.field}`
    throw error
  }
  return "accepted"
}

describe("an endorsement key that peers are to appraise themselves", () => {
  const endorsed = (change: { readonly peers?: string; readonly edge?: object; readonly chip?: object }) =>
    text((d) => {
      stageOf(d, {
        assurance: "tpm-only",
        platforms: ["tpm"],
        tpm: plainTpm,
      })
      Object.assign(d, {
        roots: [...d.roots, { vendor: "tpm", use: "ek", key_digest: hex(32, "08"), emulated: false }, akRoot],
        ...(change.peers && { peers: change.peers }),
      })
      Object.assign(d.nodes[0] ?? {}, { chip: change.chip ?? { tpm_ek: hex(32, "08") } })
      Object.assign(d.edges[0] ?? {}, change.edge)
    })
  const name = "INCONSISTENT nodes.n1.chip.tpm_ek"

  it("is refused by name: they can't ask for the proof, and would never have keys", () => {
    expect(refusal(() => parseWorkflow(endorsed({ peers: "evidence" })))).toBe(name)
    expect(refusal(() => parseWorkflow(endorsed({ edge: { peers: "evidence" } })))).toBe(name)
    const both = { tpm_ek: hex(32, "08"), tpm: hex(32, "07") }
    expect(refusal(() => parseWorkflow(endorsed({ peers: "evidence", chip: both })))).toBe(name)
    const pairs = [["n1", "n2"]]
    expect(refusal(() => parseWorkflow(endorsed({ edge: { peers: "evidence", pairs } })))).toBe(name)
  })

  it("is taken where a verifier proves it, or the node is at no such edge", () => {
    expect(refusal(() => parseWorkflow(endorsed({})))).toBe("accepted")
    expect(refusal(() => parseWorkflow(endorsed({ peers: "evidence", edge: { peers: "results" } })))).toBe(
      "accepted",
    )
    const chip = { tpm: hex(32, "07") }
    expect(refusal(() => parseWorkflow(endorsed({ peers: "evidence", chip })))).toBe("accepted")
    const pairs = [["n3", "n2"]]
    expect(refusal(() => parseWorkflow(endorsed({ edge: { peers: "evidence", pairs } })))).toBe("accepted")
  })
})

describe("parseWorkflow", () => {
  it("takes a sound document as it is", () => {
    expect(parseWorkflow(text())).toEqual(document)
  })

  const cases: ReadonlyArray<readonly [string, string, string]> = [
    ["not YAML at all", "{", "NOT_YAML document"],
    ["a key twice", `${text()}version: 4\n`, "NOT_YAML document"],
    [
      "aliases",
      text().replace("domain: lab", "domain: &d lab").replace("workflow: example", "workflow: *d"),
      "NOT_YAML document",
    ],
    ["an alias bomb", `a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n`, "NOT_YAML document"],
    ["an unknown field", `${text()}colour: red\n`, 'BAD_FIELD ["colour"]'],
    ["another suite", text((d) => Object.assign(d, { suite: "rot13" })), 'BAD_FIELD ["suite"]'],
    [
      "a version that is no number",
      text((d) => Object.assign(d, { version: "new" })),
      'BAD_FIELD ["version"]',
    ],
    [
      "an end that is no time",
      text((d) => Object.assign(d, { not_after: "soon" })),
      'BAD_FIELD ["not_after"]',
    ],
    [
      "a node of no stage",
      text((d) => Object.assign(d.nodes[0] ?? {}, { stage: "x" })),
      "INCONSISTENT nodes.n1.stage",
    ],
    [
      "two nodes of one name",
      text((d) => Object.assign(d.nodes[1] ?? {}, { id: "n1" })),
      "INCONSISTENT nodes.id",
    ],
    [
      "two nodes of one address",
      text((d) => Object.assign(d.nodes[1] ?? {}, { address: "10.77.0.1" })),
      "INCONSISTENT nodes.address",
    ],
    [
      "two nodes on one chip",
      text((d) => Object.assign(d.nodes[1] ?? {}, { chip: { sev_snp: hex(64, "02") } })),
      "INCONSISTENT nodes.chip",
    ],
    // Every object has these without being given them.
    [
      "a node of a stage that only seems to be there",
      text((d) => Object.assign(d.nodes[0] ?? {}, { stage: "constructor" })),
      "INCONSISTENT nodes.n1.stage",
    ],
    [
      "any machine for a stage that only seems to be there",
      text((d) => Object.assign(d.nodes[1] ?? {}, { stage: "__proto__" })),
      "INCONSISTENT nodes.n2.stage",
    ],
    [
      "an edge to a stage that only seems to be there",
      text((d) => Object.assign(d.edges[0] ?? {}, { to: "toString" })),
      "INCONSISTENT edges.raw",
    ],
    [
      "an edge to no stage",
      text((d) => Object.assign(d.edges[0] ?? {}, { to: "x" })),
      "INCONSISTENT edges.raw",
    ],
    [
      "an edge from a stage to itself",
      text((d) => Object.assign(d.edges[0] ?? {}, { to: "source" })),
      "INCONSISTENT edges.raw",
    ],
    [
      "TCP without a port",
      text((d) => delete (d.edges[0] as Partial<Document["edges"][0]>).port),
      "INCONSISTENT edges.raw.port",
    ],
    [
      "ICMP with a port",
      text((d) => Object.assign(d.edges[0] ?? {}, { protocol: "icmp" })),
      "INCONSISTENT edges.raw.port",
    ],
    [
      "emulated stages without an emulated root",
      text((d) => Object.assign(d.roots[0] ?? {}, { emulated: false })),
      "INCONSISTENT stages.source.assurance",
    ],
    [
      "a section that no platform of the stage has",
      text((d) => Object.assign(d.stages.source, { tpm: { bank: "sha256", pcrs: { 7: [hex(32, "01")] } } })),
      "INCONSISTENT stages.source.tpm",
    ],
    [
      "a platform without its section",
      text((d) => Object.assign(d.stages.source, { platforms: ["sev-snp", "tdx"] })),
      "INCONSISTENT stages.source.tdx",
    ],
    [
      "a platform that no root can vouch for",
      text((d) => stageOf(d, { platforms: ["tpm"], assurance: "tpm-only", tpm: plainTpm })),
      "INCONSISTENT stages.source.platforms",
    ],
    [
      "a TPM alone as hardware",
      text((d) => {
        d.roots.push(akRoot as never)
        stageOf(d, { platforms: ["tpm"], assurance: "hardware", tpm: plainTpm })
      }),
      "INCONSISTENT stages.source.assurance",
    ],
    [
      "a TPM of which any boot would do",
      text((d) => {
        d.roots.push(akRoot as never)
        stageOf(d, { platforms: ["tpm"], assurance: "tpm-only", tpm: { bank: "sha256", secure_boot: true } })
      }),
      "INCONSISTENT stages.source.tpm",
    ],
    [
      "a register of another bank's length",
      text((d) => {
        d.roots.push(akRoot as never)
        stageOf(d, { platforms: ["tpm"], assurance: "tpm-only", tpm: { ...plainTpm, bank: "sha384" } })
      }),
      "INCONSISTENT stages.source.tpm.pcrs.7",
    ],
    [
      "a day that there isn't",
      text((d) =>
        Object.assign(d.stages.source.sev_snp, { tcb: { minimum: [{ snp: 1, since: "2026-02-30" }] } }),
      ),
      "INCONSISTENT stages.source.sev_snp.tcb.minimum",
    ],
    [
      "a chip of a kind that the stage doesn't take",
      text((d) => Object.assign(d.nodes[0] ?? {}, { chip: { tdx: hex(16, "02") } })),
      "INCONSISTENT nodes.n1.chip",
    ],
    [
      "a chip that names none",
      text((d) => Object.assign(d.nodes[0] ?? {}, { chip: {} })),
      "INCONSISTENT nodes.n1.chip",
    ],
    [
      "a chip as it was written once",
      text((d) => Object.assign(d.nodes[0] ?? {}, { chip: hex(64, "02") })),
      'BAD_FIELD ["nodes"][0]["chip"]',
    ],
    [
      "a stage as it was written once",
      text((d) => Object.assign(d.stages.source, { measurements: [hex(48, "ab")] })),
      'BAD_FIELD ["stages"]["source"]["measurements"]',
    ],
    ["no root", text((d) => Object.assign(d, { roots: [] })), 'BAD_FIELD ["roots"]'],
    [
      "an address that is none",
      text((d) => Object.assign(d.nodes[0] ?? {}, { address: "10.77.0.256" })),
      'BAD_FIELD ["nodes"][0]["address"]',
    ],
  ]
  const node = (change: object) => text((d) => Object.assign(d.nodes[0] ?? {}, change))
  const edge = (change: object) => text((d) => Object.assign(d.edges[0] ?? {}, change))
  const withoutAddress = (change: object = {}) =>
    text((d) => {
      delete (d.nodes[0] as Partial<Document["nodes"][0]>).address
      Object.assign(d.nodes[0] ?? {}, change)
    })

  it.each([
    ["an IPv6 address beside IPv4", node({ address6: "fd77::1" })],
    ["an IPv6 address alone", withoutAddress({ address6: "fd77::1" })],
    ["an IPv6 wire", node({ wire: "2001:db8::11" })],
    ["SCTP", edge({ protocol: "sctp" })],
    ["anything", text((d) => Object.assign(d.edges[0] ?? {}, { protocol: "any", port: undefined }))],
  ])("takes %s", (_, yaml) => {
    expect(refusal(() => parseWorkflow(yaml))).toBe("accepted")
  })

  it("says how an address must be written", () => {
    expect(() => parseWorkflow(node({ address6: "FD77:0::1" }))).toThrow(/must be written fd77::1/)
  })

  const addresses: typeof cases = [
    ["a node without any address", withoutAddress(), "INCONSISTENT nodes.n1.address"],
    ["IPv6 where IPv4 belongs", node({ address: "fd77::1" }), 'BAD_FIELD ["nodes"][0]["address"]'],
    ["IPv4 where IPv6 belongs", node({ address6: "10.77.0.1" }), 'BAD_FIELD ["nodes"][0]["address6"]'],
    ["IPv6 in another text", node({ address6: "FD77::1" }), 'BAD_FIELD ["nodes"][0]["address6"]'],
    ["a multicast address", node({ address6: "ff02::1" }), 'BAD_FIELD ["nodes"][0]["address6"]'],
    ["loopback on the wire", node({ wire: "127.0.0.1" }), 'BAD_FIELD ["nodes"][0]["wire"]'],
    ["a link-local wire", node({ wire: "fe80::1" }), 'BAD_FIELD ["nodes"][0]["wire"]'],
    [
      "two nodes of one IPv6 address",
      text((d) => d.nodes.map((one) => Object.assign(one, { address6: "fd77::1" }))),
      "INCONSISTENT nodes.address",
    ],
    ["SCTP without a port", edge({ protocol: "sctp", port: undefined }), "INCONSISTENT edges.raw.port"],
    ["`any` with a port", edge({ protocol: "any" }), "INCONSISTENT edges.raw.port"],
    ["a protocol nobody knows", edge({ protocol: "dccp" }), 'BAD_FIELD ["edges"][0]["protocol"]'],
  ]
  for (const [what, yaml, wanted] of [...cases, ...addresses]) {
    it(`refuses ${what}`, () => expect(refusal(() => parseWorkflow(yaml))).toBe(wanted))
  }
})

describe("verifyWorkflow", () => {
  const [a, b, stranger] = [crypto.ed25519.generate(), crypto.ed25519.generate(), crypto.ed25519.generate()]
  const bytes = new TextEncoder().encode(text())
  const signature = (key: SecretKey, over = bytes) => ({
    key: key.publicKey,
    signature: crypto.ed25519.sign(workflowSigningBytes(over), key),
  })
  const trust = (threshold: number) => ({
    domain: "lab",
    operatorKeys: [a.publicKey, b.publicKey],
    threshold,
  })
  const now = Date.parse("2026-11-23T00:00:00Z")
  const verify = (
    signatures: ReadonlyArray<ReturnType<typeof signature>>,
    threshold = 1,
    at = now,
    domain = "lab",
  ) =>
    refusal(() =>
      verifyWorkflow(crypto, { v: 1, document: bytes, signatures }, { ...trust(threshold), domain }, at),
    )

  it("accepts what enough operators have signed", () => {
    expect(verify([signature(a)])).toBe("accepted")
    expect(verify([signature(a), signature(b)], 2)).toBe("accepted")
    expect(verify([signature(stranger), signature(b)])).toBe("accepted")
  })

  it("refuses too few, strangers, one operator twice, and signatures over other bytes", () => {
    expect(verify([])).toBe("UNSIGNED signatures")
    expect(verify([signature(stranger)])).toBe("UNSIGNED signatures")
    expect(verify([signature(a), signature(a)], 2)).toBe("UNSIGNED signatures")
    expect(verify([signature(a, new TextEncoder().encode(`${text()} `))])).toBe("UNSIGNED signatures")
    expect(verify([signature(a)], 0)).toBe("UNSIGNED signatures")
  })

  it("refuses every flipped byte of a signature", () => {
    for (let i = 0; i < 64; i++) {
      const flipped = signature(a)
      flipped.signature[i] = (flipped.signature[i] ?? 0) ^ 1
      expect(verify([flipped])).toBe("UNSIGNED signatures")
    }
  })

  it("refuses another domain's document, and one whose end has come", () => {
    expect(verify([signature(a)], 1, now, "other")).toBe("WRONG_DOMAIN domain")
    expect(verify([signature(a)], 1, Date.parse("2027-01-01T00:00:00Z") - 1)).toBe("accepted")
    expect(verify([signature(a)], 1, Date.parse("2027-01-01T00:00:00Z"))).toBe("EXPIRED not_after")
    expect(verify([signature(a)], 1, Number.NaN)).toBe("EXPIRED not_after")
  })

  it("gives each document another digest", () => {
    const digestOf = (document: Uint8Array<ArrayBuffer>) =>
      verifyWorkflow(crypto, { v: 1, document, signatures: [signature(a, document)] }, trust(1), now).digest
    const other = new TextEncoder().encode(text((d) => Object.assign(d, { version: 4 })))
    expect(Buffer.from(digestOf(bytes)).equals(digestOf(other))).toBe(false)
    expect(digestOf(bytes)).toHaveLength(32)
  })
})
