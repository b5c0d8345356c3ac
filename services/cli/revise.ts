/**
 * A new version of the workflow in force: the document that this operator's key has signed, edited where it must be, its
 * comments kept, its version one higher, signed and stored after somebody has seen what changes.
 */
import { createInterface } from "node:readline/promises"
import { type Document, parseDocument } from "yaml"
import type { Workflow } from "../../schemas/workflow.ts"
import { crypto } from "../common/crypto/index.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { toHex } from "../common/hex.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { compileWorkflow } from "../make/edges.ts"
import { workflowDigest } from "../make/transcript.ts"
import { parseWorkflow, verifyWorkflow, workflowSigningBytes } from "../make/workflow-document.ts"
import { onBus } from "./bus-commands.ts"
import { readDocument } from "./document-file.ts"
import { warnOfEarlierEnd } from "./earlier-end.ts"
import { domainOf, keyFilesOf, type LifecycleValues } from "./lifecycle-options.ts"
import { readOperatorKey } from "./operator-key.ts"
import { type Output, warn } from "./output.ts"
import { diffLines } from "./text-diff.ts"

/** Changes the YAML in place. Throws an Error that says why when there is nothing to change. */
export type Edit = (yaml: Document, workflow: Workflow) => void

export interface Revised {
  readonly text: string
  readonly workflow: Workflow
  readonly diff: ReadonlyArray<string>
}

/**
 * The edited text, with the next version's number. Pure.
 * @throws WorkflowError, MakeError when what comes out is no sound workflow; whatever `edit` throws
 */
export const reviseText = (text: string, edit: Edit): Revised => {
  const before = parseWorkflow(text)
  const yaml = parseDocument(text, { uniqueKeys: true, strict: true, schema: "core", merge: false })
  // Both are printed alike, so that folded lines don't count as changes.
  const printed = () => yaml.toString({ lineWidth: 0 })
  const base = printed()
  edit(yaml, before)
  yaml.set("version", before.version + 1)
  const after = printed()
  const workflow = parseWorkflow(after)
  const digest = workflowDigest(crypto, new TextEncoder().encode(after))
  compileWorkflow(protocolWorkflow({ document: workflow, digest }))
  return { text: after, workflow, diff: diffLines(base, after) }
}

const agreed = async (question: string): Promise<boolean> => {
  if (!process.stdin.isTTY) throw new Error("nobody is there to agree: look at what changes, then say --yes")
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await asking.question(`${question} [y/N] `)).trim())
  } finally {
    asking.close()
  }
}

/** The document to edit: the operator's own copy, or the one in force if one of these keys has signed it. */
const baseOf = async (keys: ReadonlyArray<SecretKey>, values: LifecycleValues): Promise<string> => {
  if (values.from !== undefined) return new TextDecoder().decode(readDocument(values.from))
  const domain = domainOf(values)
  const stored = await onBus((bus) => bus.workflows.get(domain))
  if (stored === undefined) throw new Error(`no workflow of domain ${domain} is stored: apply one first`)
  // Whoever runs the bus may put anything there: nothing is signed that hadn't been signed before, but for the edit.
  const trust = { domain, operatorKeys: keys.map(({ publicKey }) => publicKey), threshold: 1 }
  verifyWorkflow(crypto, stored.value, trust, Date.now())
  return new TextDecoder("utf-8", { fatal: true }).decode(stored.value.document)
}

/** Edits, shows what changes, asks unless `--yes`, signs with each key, and stores. */
export const revise = async (
  out: Output,
  values: LifecycleValues,
  edit: Edit,
  done: string,
): Promise<void> => {
  const keys = keyFilesOf(values).map((path) => readOperatorKey(crypto, path))
  try {
    const { text, workflow, diff } = reviseText(await baseOf(keys, values), edit)
    if (workflow.domain !== domainOf(values)) throw new Error(`the document is of domain ${workflow.domain}`)
    for (const line of diff) warn(line)
    await onBus((bus) => warnOfEarlierEnd(bus, workflow))
    if (!values.yes && !(await agreed(`Sign ${workflow.workflow} version ${workflow.version}?`)))
      throw new Error("nothing was signed")
    const document = new TextEncoder().encode(text)
    const bytes = workflowSigningBytes(document)
    const signatures = keys.map((key) => ({
      key: key.publicKey,
      signature: crypto.ed25519.sign(bytes, key),
    }))
    await onBus((bus) => bus.workflows.put(workflow.domain, { v: 1, document, signatures }))
    const digest = toHex(workflowDigest(crypto, document))
    out.result({ workflow: workflow.workflow, version: workflow.version, digest, diff }, [
      `${done} ${workflow.workflow} version ${workflow.version} is signed and applied (digest ${digest.slice(0, 16)}...).`,
    ])
  } finally {
    for (const key of keys) key.dispose()
  }
}
