import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type MessageName, messages } from "../../schemas/generate/messages.ts"
import { msgpack } from "../../schemas/generate/msgpack.ts"
import { limits } from "../../schemas/limits.ts"
import { AttestReply, HelloReply } from "../../schemas/messages/attestation.ts"
import { DecodeError, decode } from "../../services/common/codec/index.ts"
import { withBuses } from "../support/buses.ts"
import { attacksOn, garbage, mutations } from "../support/hostile.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { type Raw, rawUser } from "../support/raw.ts"

const names = Object.keys(messages) as MessageName[]
const codes = new Set([
  "TOO_LARGE",
  "NOT_MSGPACK",
  "FORBIDDEN_TYPE",
  "TOO_DEEP",
  "TOO_MANY",
  "DUPLICATE_KEY",
  "TRAILING",
  "WRONG_VERSION",
  "UNKNOWN_FIELD",
  "BAD_FIELD",
])
/** Of processor time: far more than any one decode takes here (under 10 ms), far less than one that is not bounded. */
const MS_MAX = 250

const refusalOf = (name: MessageName, bytes: Uint8Array): DecodeError | undefined => {
  const before = process.threadCpuUsage()
  const found = decode(messages[name].schema, bytes, { subject: name })
  const { user, system } = process.threadCpuUsage(before)
  expect((user + system) / 1_000).toBeLessThan(MS_MAX)
  if (found.ok) return undefined
  expect(found.error).toBeInstanceOf(DecodeError)
  expect(codes.has(found.error.code)).toBe(true)
  expect(found.error.subject).toBe(name)
  expect(found.error.field).toMatch(/^[\x20-\x7e]{0,128}$/)
  expect(found.error.message).toMatch(/^[\x20-\x7e]{1,512}$/)
  return found.error
}

describe.each(names)("%s", (name) => {
  it("is refused in every broken form, by a typed error", () => {
    const attacks = attacksOn(messages[name])
    const { example } = messages[name]
    const least = msgpack(example).length + 15 * Object.keys(example as object).length
    expect(attacks.length).toBeGreaterThan(least)
    const accepted = attacks.filter(({ bytes }) => refusalOf(name, bytes) === undefined)
    expect(accepted.map((attack) => attack.name)).toEqual([])
  })
  it("says what is wrong", () => {
    const code = (attack: string) => {
      const found = attacksOn(messages[name]).find((one) => one.name === attack)
      return found === undefined ? attack : refusalOf(name, found.bytes)?.code
    }
    expect(code("nothing")).toBe("NOT_MSGPACK")
    expect(code("cut at byte 7")).toBe("NOT_MSGPACK")
    expect(code("a byte after it")).toBe("TRAILING")
    expect(code("twice")).toBe("TRAILING")
    expect(code("version number 2")).toBe("WRONG_VERSION")
    expect(code("an unknown field")).toBe("UNKNOWN_FIELD")
    expect(code("v twice")).toBe("DUPLICATE_KEY")
    expect(code("extension 0 as v")).toBe("FORBIDDEN_TYPE")
    expect(code("without v")).toBe("BAD_FIELD")
    expect(code("100,000 arrays inside each other")).toBe("TOO_DEEP")
    expect(code("more values than allowed")).toBe("TOO_MANY")
    expect(refusalOf(name, new Uint8Array(limits.messageBytes + 1))?.code).toBe("TOO_LARGE")
  })
  it("with random changes is a good message or a typed error", () => {
    let refused = 0
    for (const bytes of [...mutations(messages[name], 1_500, 1), ...garbage(500, 2)])
      if (refusalOf(name, bytes) !== undefined) refused++
    expect(refused).toBeGreaterThan(500)
  })
})

describe("live services at a real server", () => {
  let nats: TestNats
  let loader: Raw

  beforeAll(async () => {
    nats = await startNats([
      { role: "operator", instance: "lab" },
      { role: "verifier", instance: "v1" },
      { role: "releaser", instance: "r1" },
      { role: "attester", instance: "n1" },
      { role: "loader", instance: "n1" },
    ])
    await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
    loader = await rawUser(nats, { role: "loader", instance: "n1" })
  })
  afterAll(async () => {
    await loader.close()
    await nats.stop()
  })

  const no = { v: 1, kind: "refused", by: "service", code: "GOOD", field: "", message: "" } as const

  it("refuse every one of them and still answer a good request", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["attester", "n1"],
        ["releaser", "r1"],
      ],
      (verifier, attester, releaser) =>
        Effect.gen(function* () {
          let handled = 0
          const good = Effect.sync(() => {
            handled++
            return no
          })
          yield* verifier.serve("hello", {}, () => good)
          yield* attester.serve("attest", { node: "n1" }, () => good)
          const pulls: unknown[] = []
          yield* releaser.subscribe("pull", {}, (value) => Effect.sync(() => pulls.push(value)), {
            perSenderMax: 4,
          })

          const served = [
            ["hello", "vs.v1.hello.n1", HelloReply, "hello"],
            ["attest-control", "vs.v1.attest.n1.loader-n1", AttestReply, "attest"],
          ] as const
          let sent = 0
          for (const [name, subject, reply] of served) {
            const attacks = [
              ...attacksOn(messages[name]).map(({ bytes }) => bytes),
              ...garbage(50, 3),
            ].filter((bytes) => bytes.length <= limits.messageBytes)
            for (const bytes of attacks) {
              const answer = yield* Effect.promise(() => loader.ask(subject, bytes, 5_000))
              sent++
              const found = decode(reply, answer, { subject })
              expect(found).toMatchObject({ ok: true, value: { kind: "refused" } })
            }
          }
          for (const { bytes } of attacksOn(messages.signed)) loader.send("vs.v1.pull.n1", bytes)
          yield* Effect.promise(() => loader.settle())
          expect(sent).toBeGreaterThan(400)
          expect(handled).toBe(0)

          for (const [name, subject, reply] of served) {
            const answer = yield* Effect.promise(() => loader.ask(subject, msgpack(messages[name].example)))
            expect(decode(reply, answer, { subject })).toEqual({ ok: true, value: no })
          }
          expect(handled).toBe(2)
          yield* Effect.sleep("100 millis")
          expect(pulls).toEqual([])
          loader.send("vs.v1.pull.n1", msgpack(messages.signed.example))
          for (let i = 0; i < 200 && pulls.length === 0; i++) yield* Effect.sleep("10 millis")
          expect(pulls).toEqual([messages.signed.example])
          const refused = verifier.counters().refused
          expect(Object.values(refused).reduce((a, b) => a + b, 0)).toBeGreaterThan(200)
        }),
    ))
})
