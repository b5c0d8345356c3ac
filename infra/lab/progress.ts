/** Events of the bus as lines for a person. Pure. */
import type { Event } from "../../schemas/messages/event.ts"
import { shortDigests } from "./summary.ts"

const short = (digest: string | undefined): string => (digest ?? "").slice(0, 12)

/** An edge instance `edge:from:to` as it is said. */
const edgeName = (instance: string): string => {
  const [edge = "?", from = "?", to = "?"] = instance.split(":")
  return `${edge} (${from} -> ${to})`
}

const because = ({ code = "", field = "", message = "" }: Event["data"]): string => {
  const place = field === "" || field.toUpperCase().replaceAll("-", "_") === code ? "" : ` (${field})`
  return `${code}${place}${message === "" ? "" : `: ${message}`}`
}

/** Steps on the way that a later line says better. */
const SILENT: ReadonlySet<string> = new Set([
  "hello.refused",
  "workflow.applied",
  "release.sent",
  "node.accepted",
  "edge.install",
])

/** One line, or undefined for what a person needn't see. `identity` is the publisher. */
export const describeEvent = (identity: string, { type, data }: Event): string | undefined => {
  const kind = type.replace("vouchsafe.", "")
  if (SILENT.has(kind)) return undefined
  const who = data.node ?? identity
  if (kind === "service.ready") return `${identity} is ready`
  if (kind === "attestation.accepted") {
    const platform = `${data.platform ?? "?"}${data.emulated ? " (EMULATED)" : ""}`
    return `${who} accepted as ${data.stage}: ${platform}, data plane ${short(data.dataplane)}`
  }
  if (kind === "attestation.refused") return `${who} REFUSED: ${because(data)}`
  if (kind === "control.accepted") return `${who} believes the control plane`
  if (kind === "peer.accepted") return `${who} has appraised ${data.peer} itself: ${data.platform ?? "?"}`
  if (kind === "peer.stale") return `${who} wants younger Evidence of ${data.peer}, over a nonce of its own`
  if (kind === "peer.refused") return `${who} REFUSED to take ${data.peer} for genuine: ${because(data)}`
  if (kind === "release.accepted") return `${who} opened its keys`
  if (kind === "leader.began") return `${data.message} on ${who} leads, term ${data.term}`
  if (kind === "leader.ended")
    return `${data.message} on ${who} leads no more, its term was ${data.term ?? "none"}`
  if (kind === "edge.active")
    return `edge ${edgeName(data.edge ?? "")} is active, epoch ${data.term ?? "?"}.${data.epoch ?? "?"}`
  const about = [
    identity,
    kind,
    who === identity ? "" : who,
    data.edge === undefined ? "" : edgeName(data.edge),
  ]
  const why = because(data)
  return `${about.filter((part) => part !== "").join(" ")}${why === "" ? "" : `: ${why}`}`
}

const LINE_MAX = 160

/** Says each thing once: retries and renewals of the same are no news. Control characters become blanks. */
export const createNews = () => {
  const said = new Set<string>()
  return (identity: string, event: Event): string | undefined => {
    const text = describeEvent(identity, event)
    if (text === undefined || said.has(text)) return undefined
    said.add(text)
    const clean = Array.from(shortDigests(text), (character) =>
      character < " " || character === "\u007f" ? " " : character,
    )
    return clean.length > LINE_MAX ? `${clean.slice(0, LINE_MAX - 3).join("")}...` : clean.join("")
  }
}
