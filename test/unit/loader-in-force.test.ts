/** Which document a node's kernel follows, when the kernel fails: what was left half done is tried again, and no keys are asked for meanwhile. */
import { Effect } from "effect"
import { beforeEach, describe, expect, it } from "vitest"
import { KernelError } from "../../services/common/kernel/errors.ts"
import { makeInForce } from "../../services/dataplane-loader/in-force.ts"
import type { Rules } from "../../services/dataplane-loader/rules.ts"
import { MakeError } from "../../services/make/errors.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"

const documentOf = (version: number) => ({ document: { version } }) as VerifiedWorkflow
const [first, second] = [documentOf(1), documentOf(2)]
const busy = () => new KernelError("map update", "policies", "EBUSY")
const full = () => new KernelError("map update", "policies", "E2BIG")
const foreign = () => new MakeError("NO_SUCH_EDGE", "nodes", "does not name this node")

/** What the kernel answers to putting, and to clearing: nothing is success. */
let answers: { put: Error | undefined; clear: Error | undefined }
let done: string[]

const make = () =>
  makeInForce({
    put: ({ document }) => {
      done.push(`put ${document.version}`)
      if (answers.put !== undefined) throw answers.put
      return {} as Rules
    },
    clear: () => {
      done.push("clear")
      if (answers.clear !== undefined) throw answers.clear
    },
    followed: ({ workflow }) => Effect.sync(() => void done.push(`follow ${workflow.document.version}`)),
    refused: ({ code, field }) => Effect.sync(() => void done.push(`refused ${code} ${field}`)),
    failed: ({ code, field }) => Effect.sync(() => void done.push(`failed ${code} ${field}`)),
  })
const since = (): ReadonlyArray<string> => done.splice(0)
const run = Effect.runSync

let inForce: ReturnType<typeof make>
beforeEach(() => {
  answers = { put: undefined, clear: undefined }
  done = []
  inForce = make()
  run(inForce.take(first))
  expect(since()).toEqual(["put 1", "follow 1"])
  expect(inForce.known()?.workflow).toBe(first)
})

describe("a kernel that doesn't take a document", () => {
  it("is asked again until it does; until then no edge stands, and nothing is asked for", () => {
    answers.put = busy()
    run(inForce.take(second))
    expect(since()).toEqual(["put 2", "clear", "failed EBUSY policies"])
    expect(inForce.known()).toBeUndefined()
    run(inForce.again(second))
    expect(since(), "said once").toEqual(["put 2", "clear"])
    answers.put = full()
    run(inForce.again(second))
    expect(since(), "another reason").toEqual(["put 2", "clear", "failed E2BIG policies"])
    answers.put = undefined
    run(inForce.again(second))
    expect(since()).toEqual(["put 2", "follow 2"])
    expect(inForce.known()?.workflow).toBe(second)
    run(inForce.again(second))
    expect(since()).toEqual([])
  })

  it("is not asked for one that has ended, or that another has followed", () => {
    answers.put = busy()
    run(inForce.take(second))
    since()
    run(inForce.again(undefined))
    run(inForce.again(first))
    expect(since()).toEqual([])
  })

  it("and can't be cleared either: it fails once, and is asked again", () => {
    answers = { put: busy(), clear: busy() }
    run(inForce.take(second))
    expect(since()).toEqual(["put 2", "clear", "failed EBUSY policies"])
    run(inForce.again(second))
    expect(since()).toEqual(["put 2", "clear"])
    expect(inForce.known()).toBeUndefined()
  })
})

describe("a document that isn't for this node", () => {
  it("takes all edges away, and is not tried again", () => {
    answers.put = foreign()
    run(inForce.take(second))
    expect(since()).toEqual(["put 2", "clear", "refused NO_SUCH_EDGE nodes"])
    expect(inForce.known()).toBeUndefined()
    run(inForce.again(second))
    expect(since()).toEqual([])
  })

  it("whose edges the kernel doesn't let go: they are taken away as soon as it does", () => {
    answers = { put: foreign(), clear: busy() }
    run(inForce.take(second))
    expect(since()).toEqual(["put 2", "clear", "refused NO_SUCH_EDGE nodes", "failed EBUSY policies"])
    answers.clear = undefined
    run(inForce.again(second))
    expect(since()).toEqual(["put 2", "clear", "refused NO_SUCH_EDGE nodes"])
    run(inForce.again(second))
    expect(since()).toEqual([])
  })
})

it("what is neither is a fault of ours, and isn't swallowed; nothing is asked for all the same", () => {
  answers.put = new TypeError("no")
  expect(() => run(inForce.take(second))).toThrow("no")
  expect(inForce.known()).toBeUndefined()
})
