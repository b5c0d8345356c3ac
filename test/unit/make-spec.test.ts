/** MAKE as its text says it, computed once more by a program that shares no code with the services. See `test/support/make-spec`. */
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { labels } from "../../services/make/labels.ts"
import type { Json, Vector, Vectors } from "../support/make-spec/inputs.ts"
import { stored, text } from "../support/make-spec/vectors.ts"

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url))
const read = (name: string) => readFileSync(path(name), "utf8")

type Answers = { readonly [name: string]: Vector["out"] }

interface Said {
  readonly answers: Answers
  /** Computations that nothing was asked of. */
  readonly unasked: ReadonlyArray<string>
}

/** The program sees what goes in, never what should come out. */
const ask = (vectors: Vectors): Said => {
  const questions = Object.entries(vectors).map(([name, { of, in: given }]) => [name, { of, in: given }])
  const args = ["-B", path("test/support/make-spec/make_spec.py")]
  const input = JSON.stringify(Object.fromEntries(questions))
  const run = spawnSync("/usr/bin/python3", args, { input, encoding: "utf8", timeout: 60_000 })
  if (run.status !== 0) throw new Error(`${run.error?.message ?? ""}${run.stderr}`)
  return JSON.parse(run.stdout)
}

const vectorsOf = (file: string): Vectors => JSON.parse(file).vectors

/** Each message with all of its fields, packed and as JSON: what one is made of the other. */
const goldenVectors = (): Vectors => {
  const names = readdirSync(path("schemas/generated/golden")).filter((name) => name.endsWith(".json"))
  return Object.fromEntries(
    names.map((file) => {
      const message = file.slice(0, -".json".length)
      const json = JSON.parse(read(`schemas/generated/golden/${file}`)) as Json
      const packed = read(`schemas/generated/golden/${message}.msgpack.hex`).replaceAll("\n", "")
      return [`golden ${message}`, { of: "golden", in: { message, packed, json }, out: { packed, json } }]
    }),
  )
}

/** Names of outputs that one side lacks, or has with another value. */
const differences = (vectors: Vectors, answers: Answers): ReadonlyArray<string> => {
  const flat = (all: Readonly<Record<string, Vector["out"]>>) =>
    new Map(
      Object.entries(all).flatMap(([name, out]) => [
        [name, ""] as const,
        ...Object.entries(out).map(([part, value]) => [`${name}: ${part}`, JSON.stringify(value)] as const),
      ]),
    )
  const wanted = flat(Object.fromEntries(Object.entries(vectors).map(([name, { out }]) => [name, out])))
  const found = flat(answers)
  return [...new Set([...wanted.keys(), ...found.keys()])].filter((key) => wanted.get(key) !== found.get(key))
}

/** Values of the same shape in which one number or truth is another, or the first or last digit or letter of one text. */
const changed = (value: Json): ReadonlyArray<Json> => {
  if (typeof value === "number") return [value + 1]
  if (typeof value === "boolean") return [!value]
  if (value === "") return ["0"]
  if (typeof value === "string")
    return [0, -1].map((at) => [...value].with(at, value.at(at) === "0" ? "1" : "0").join(""))
  const entries = Object.entries(value)
  return entries.flatMap(([name, inner]) =>
    changed(inner as Json).map((other) =>
      Array.isArray(value) ? value.with(Number(name), other) : { ...value, [name]: other },
    ),
  )
}

describe("MAKE by its specification", () => {
  const vectors = vectorsOf(stored())
  const golden = goldenVectors()
  let said: Said

  beforeAll(() => {
    said = ask({ ...vectors, ...golden })
  })

  it("has the vectors that the services compute (if not: node test/support/make-spec/vectors.ts)", () => {
    expect(stored()).toBe(text())
  })

  it("gives the same values to a program that follows its text", () => {
    expect(differences({ ...vectors, ...golden }, said.answers)).toEqual([])
    expect(said.unasked).toEqual([])
  })

  it("is held to every output of every vector, and to every vector", () => {
    for (const [name, one] of Object.entries(vectors)) {
      const [all, answers] = [{ [name]: one }, { [name]: said.answers[name] ?? {} }]
      for (const out of changed(one.out) as ReadonlyArray<Vector["out"]>)
        expect(differences({ [name]: { ...one, out } }, answers)).toHaveLength(1)
      expect(differences({}, answers)).toContain(name)
      expect(differences(all, {})).toContain(name)
    }
  })

  it("believes peers as a node does: whole, and nothing that was changed", () => {
    const believed = Object.entries(vectors.peers?.out ?? {}).filter(([, found]) => found === true)
    expect(believed.map(([name]) => name)).toEqual(["all", "two", "one"])
    expect(Object.values(vectors.peers?.out ?? {})).toHaveLength(14)
    expect(vectors["peers in another domain"]?.out).toEqual({ all: false })
  })

  it("names every label that is hashed or signed behind", () => {
    const text = read("services/make/SPEC.md")
    const missing = Object.values(labels).filter(
      (label) =>
        !new RegExp(`(\`|E\\(|E\\("vouchsafe/v1/)${label.slice("vouchsafe/v1/".length)}[\`,"]`).test(text),
    )
    expect(missing).toEqual([])
  })
})
