/**
 * Keeps, for each node, the last verdict that accepted it and the last that refused it, with all that they were given by:
 *
 *   <folder>/<digest of the workflow document>/workflow.yaml, <node>.record, <node>.result, <node>.refused.record
 *
 * Bounded by the number of nodes and of documents that are remembered. Nobody waits for the disk: what comes too fast
 * isn't kept, and is told.
 */
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Queue } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import { SignedResult } from "../../schemas/messages/result.ts"
import { encode } from "../common/codec/index.ts"
import { packRecord, recordEnding, resultEnding, workflowFile } from "../evidence/record/index.ts"
import { toHex } from "../evidence/text.ts"
import type { Outstanding, Verdict } from "../guest/appraise-node.ts"
import { nodeRecord } from "../guest/judge-record.ts"

const documentsKept = 4

export interface Given {
  readonly verdict: Verdict
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly at: Date
  /** As the node was given it. */
  readonly result?: SignedResult
}

/** Whole or not at all, whoever reads at the same time. */
const write = async (path: string, bytes: Uint8Array): Promise<void> => {
  const next = `${path}.${process.pid}.new`
  try {
    await writeFile(next, bytes, { mode: 0o600 })
    await rename(next, path)
  } catch (error) {
    await rm(next, { force: true })
    throw error
  }
}

/** The folder of a document; older ones beyond what is kept go. */
const openDocument = async (folder: string, digest: string, bytes: Uint8Array): Promise<string> => {
  const own = join(folder, digest)
  await mkdir(own, { recursive: true, mode: 0o700 })
  await write(join(own, workflowFile), bytes)
  const others = (await readdir(folder)).filter((name) => /^[0-9a-f]{64}$/.test(name) && name !== digest)
  const aged = await Promise.all(
    others.map(async (name) => ({ name, ms: (await stat(join(folder, name))).mtimeMs })),
  )
  const old = aged.toSorted((a, b) => b.ms - a.ms).slice(documentsKept - 1)
  for (const { name } of old) await rm(join(folder, name), { recursive: true, force: true })
  return own
}

/**
 * @param folder absolute; made when it isn't there, for root alone
 * @returns a function that takes a verdict to be kept, at once
 */
export const makeRecords = Effect.fn("makeRecords")(function* (folder: string) {
  const waiting = yield* Queue.dropping<Given>(limits.nodes)
  let current: { readonly digest: string; readonly own: string } | undefined

  const keep = async ({ verdict, evidence, asked, at, result }: Given): Promise<void> => {
    const { workflow, nodeId } = asked
    if (workflow.bytes === undefined) return
    const digest = toHex(workflow.digest)
    if (current?.digest !== digest)
      current = { digest, own: await openDocument(folder, digest, workflow.bytes) }
    const name = `${nodeId}${verdict.accepted ? "" : ".refused"}${recordEnding}`
    await write(join(current.own, name), packRecord(nodeRecord(verdict, evidence, asked, at)))
    if (result !== undefined)
      await write(join(current.own, `${nodeId}${resultEnding}`), encode(SignedResult, result))
  }

  let failures = 0
  const keepNext = Effect.gen(function* () {
    const given = yield* Queue.take(waiting)
    yield* Effect.tryPromise({ try: () => keep(given), catch: (error) => (error as Error).message }).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          failures = 0
        }),
      ),
      Effect.catch((message) => {
        current = undefined
        failures += 1
        // Once in a while is enough for a disk that stays full.
        return (failures & (failures - 1)) === 0
          ? Effect.logWarning("a verdict couldn't be kept", { folder, message: message.slice(0, 256) })
          : Effect.void
      }),
    )
  })
  yield* Effect.forkScoped(Effect.forever(keepNext))

  return (given: Given) =>
    Queue.offer(waiting, given).pipe(
      Effect.flatMap((taken) =>
        taken
          ? Effect.void
          : Effect.logWarning("a verdict wasn't kept: too many at once", { node: given.asked.nodeId }),
      ),
    )
})
