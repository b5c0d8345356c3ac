/** What must hold of a summary. Pure: a summary in, the broken expectations out, each as a sentence. */
import type { Summary } from "./summary.ts"

/** What the lab was asked to do, against which its summary is held. */
export interface Expectations {
  /** Nodes that must be accepted, with their stages. */
  readonly nodes: ReadonlyArray<{ readonly id: string; readonly stage: string }>
  /** Nodes that must be refused, and the code of the reason. */
  readonly refused: ReadonlyArray<{ readonly id: string; readonly code: string }>
  readonly edges: ReadonlyArray<{ readonly id: string; readonly from: string; readonly to: string }>
  /** Digest of the data plane that the workflow names, in hex. */
  readonly dataplane: string
}

/**
 * Drops that a healthy run can have: before a node is configured or released, at its edges' first moment, and those that
 * the intruder provokes.
 */
const ORDINARY_DROPS: ReadonlySet<string> = new Set([
  "NOT_CONFIGURED",
  "NO_POLICY",
  "NO_KEY",
  "UNKNOWN_SPI",
  "FOREIGN_IN",
  "BAD_ESP",
  "KEEPALIVE",
])

type Facts = Omit<Summary, "ok" | "problems">

const nodeProblems = (s: Facts, want: Expectations): string[] => {
  const problems: string[] = []
  for (const { id, stage } of want.nodes) {
    const node = s.nodes.find((n) => n.id === id)
    if (node === undefined) problems.push(`${id} is missing`)
    else {
      if (node.verdict !== "accepted") problems.push(`${id} was not accepted (${node.verdict})`)
      if (node.stage !== stage) problems.push(`${id} has the stage ${node.stage}, not ${stage}`)
      if (!node.platform.startsWith("sev-snp"))
        problems.push(`${id} was vouched for by ${node.platform || "nothing"}`)
      if (s.emulated && !node.platform.includes("emulated"))
        problems.push(`${id}'s platform does not say that it is emulated`)
      if (node.dataplane !== want.dataplane)
        problems.push(`${id} runs another data plane than the workflow names`)
      if (node.backend === "") problems.push(`${id} does not say how its data plane is attached`)
    }
  }
  for (const { id, code } of want.refused) {
    const refusal = s.refused.find((r) => r.id === id)
    if (refusal === undefined) problems.push(`${id} was not refused`)
    else if (refusal.code !== code) problems.push(`${id} was refused for ${refusal.code}, not for ${code}`)
    if (s.nodes.some((n) => n.id === id && n.verdict === "accepted")) problems.push(`${id} was accepted`)
  }
  for (const { id } of s.refused) {
    if (!want.refused.some((r) => r.id === id)) problems.push(`${id} was refused`)
  }
  return problems
}

const edgeProblems = (s: Facts, want: Expectations): string[] => {
  const problems: string[] = []
  for (const { id, from, to } of want.edges) {
    const edge = s.edges.find((e) => e.id === id && e.from === from && e.to === to)
    const name = `edge ${id} (${from} -> ${to})`
    if (edge === undefined) problems.push(`${name} has no keys`)
    else {
      if (edge.epoch < 1) problems.push(`${name} has no epoch`)
      if (edge.sealed_packets === 0 || edge.opened_packets === 0) problems.push(`${name} carried nothing`)
      if (edge.opened_packets > edge.sealed_packets) {
        problems.push(
          `${name} opened ${edge.opened_packets} packets, more than the ${edge.sealed_packets} sealed`,
        )
      }
    }
  }
  if (s.edges.length > want.edges.length)
    problems.push(`${s.edges.length} edges have keys, not ${want.edges.length}`)
  return problems
}

const pipelineProblems = (s: Facts, want: Expectations): string[] => {
  const problems: string[] = []
  const { pipeline } = s
  if (!(pipeline.bytes > 0) || !(pipeline.compressed > 0)) problems.push("the pipeline moved no data")
  if (!/^[0-9a-f]{64}$/.test(pipeline.sha256)) problems.push("the pipeline gave no digest")
  if (pipeline.sha256 !== pipeline.sha256_local)
    problems.push("the pipeline's result differs from the local run's")
  const [first] = want.edges
  const carrier = s.edges.find((e) => e.id === first?.id)
  if (carrier !== undefined && carrier.sealed_bytes < pipeline.bytes) {
    problems.push(
      `edge ${carrier.id} sealed ${carrier.sealed_bytes} bytes, fewer than the ${pipeline.bytes} that went through it`,
    )
  }
  return problems
}

const wireProblems = (s: Facts): string[] => {
  const problems: string[] = []
  const { wire, intruder } = s
  const sum =
    wire.esp_frames +
    wire.control_frames +
    wire.neighbour_frames +
    wire.keepalive_frames +
    wire.intruder_frames +
    wire.unexpected_frames
  if (sum !== wire.frames) problems.push(`the capture's kinds add up to ${sum}, not to ${wire.frames}`)
  if (wire.lost_frames > 0) problems.push(`the capture lost ${wire.lost_frames} frames, so it proves nothing`)
  if (wire.unexpected_frames > 0)
    problems.push(`${wire.unexpected_frames} frames on the wire were of no permitted kind`)
  if (wire.marker_hits > 0) problems.push(`the marker was seen in the clear in ${wire.marker_hits} frames`)
  const sealed = s.edges.reduce((total, e) => total + e.sealed_packets, 0)
  if (wire.esp_frames < sealed)
    problems.push(`the capture saw ${wire.esp_frames} sealed frames, the nodes sealed ${sealed}`)
  if (wire.control_frames === 0)
    problems.push("the capture saw no frame of the bus, so it can't have watched the whole run")
  const sent = intruder.sealed_looking + intruder.plain
  if (wire.intruder_frames !== sent) {
    problems.push(`the capture saw ${wire.intruder_frames} of the ${sent} frames that the intruder sent`)
  }
  return problems
}

const dropProblems = (s: Facts): string[] => {
  const problems: string[] = []
  for (const [name, n] of Object.entries(s.drops)) {
    if (!ORDINARY_DROPS.has(name)) problems.push(`${n} packets were dropped as ${name}`)
  }
  const unknown = s.drops.UNKNOWN_SPI ?? 0
  if (unknown < s.intruder.sealed_looking) {
    problems.push(
      `of ${s.intruder.sealed_looking} forged packets only ${unknown} were dropped as UNKNOWN_SPI`,
    )
  }
  const foreign = s.drops.FOREIGN_IN ?? 0
  if (foreign < s.intruder.plain) {
    problems.push(`of ${s.intruder.plain} plain packets only ${foreign} were dropped as FOREIGN_IN`)
  }
  return problems
}

/** Everything in the summary that is not as it must be; empty when all is well. */
export const findProblems = (s: Facts, want: Expectations): ReadonlyArray<string> => [
  ...nodeProblems(s, want),
  ...edgeProblems(s, want),
  ...pipelineProblems(s, want),
  ...wireProblems(s),
  ...dropProblems(s),
]

/** The summary with its verdict. */
export const judge = (facts: Facts, want: Expectations): Summary => {
  const problems = findProblems(facts, want)
  return { ok: problems.length === 0, ...facts, problems }
}
