import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { permissionsFor, serverConfig } from "../../schemas/generate/permissions.ts"
import { Hello } from "../../schemas/messages/attestation.ts"
import { SubjectError } from "../../schemas/pattern.ts"
import type { Role } from "../../schemas/subjects.ts"
import { newUser } from "../../services/common/bus/bus.ts"
import { encode } from "../../services/common/codec/index.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { type Raw, rawUser } from "../support/raw.ts"

let nats: TestNats
const users: Record<string, Raw> = {}
const user = (name: string): Raw => {
  const found = users[name]
  if (found === undefined) throw new Error(`no raw user ${name}`)
  return found
}

beforeAll(async () => {
  const known = [
    { role: "operator", instance: "lab" },
    { role: "auditor", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "releaser", instance: "r1" },
    { role: "loader", instance: "n1" },
    { role: "loader", instance: "n2" },
    { role: "attester", instance: "n1" },
    { role: "attester", instance: "cp" },
  ] as const
  nats = await startNats(known)
  await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
  for (const one of known) users[`${one.role}-${one.instance}`] = await rawUser(nats, one)
})
afterAll(async () => {
  for (const raw of Object.values(users)) await raw.close()
  await nats.stop()
})

const bytes = new Uint8Array([0x80])
const roles: ReadonlyArray<Role> = ["attester", "verifier", "releaser", "loader", "operator", "auditor"]

/** Whether the server lets a user publish on a subject. */
const mayPublish = async (name: string, subject: string): Promise<boolean> => {
  const raw = user(name)
  const before = raw.refused.length
  raw.send(subject, bytes)
  await raw.settle()
  return raw.refused.length === before
}
const maySubscribe = (name: string, subject: string, queue?: string): Promise<boolean> =>
  user(name).maySubscribe(subject, queue)

describe("permissions, as text", () => {
  it.each(roles)("of %s are allow lists without wildcards for whole branches", (role) => {
    const { publish, subscribe } = permissionsFor({ role, instance: "x1", domain: "lab" }, "vs.v1")
    for (const subject of [...publish, ...subscribe]) {
      expect(subject).not.toMatch(/^[>*]/)
      if (subject.includes(">")) expect(subject).toMatch(/^_INBOX\.(\*|[a-z]+-x1)\.>$/)
      expect(subject).toMatch(
        /^(vs\.v1\.|_INBOX\.|\$JS\.API\.|\$KV\.workflows\.lab$|\$KV\.collateral\.\*$|\$KV\.leaders\.lab$|\$KV\.proofs\.\*$)/,
      )
    }
    expect(subscribe.filter((subject) => subject.startsWith("_INBOX"))).toEqual([`_INBOX.${role}-x1.>`])
    for (const word of ["DELETE", "PURGE", "CONSUMER", "SNAPSHOT", "RESTORE", "$SYS"])
      expect(publish.join(" ")).not.toContain(word)
  })
  it("let only those answer who are asked", () => {
    const answer = (role: Role) =>
      permissionsFor({ role, instance: "x1" }, "vs.v1").publish.includes("_INBOX.*.>")
    expect(roles.filter(answer)).toEqual(["attester", "verifier"])
  })
  it("cannot be bent by a name", () => {
    for (const instance of ["*", ">", "a.b", 'a" ] } }', "a\nb", ""]) {
      expect(() => permissionsFor({ role: "loader", instance }, "vs.v1")).toThrow(SubjectError)
      expect(() =>
        permissionsFor({ role: "loader", instance: "n1", domain: instance || "." }, "vs.v1"),
      ).toThrow(SubjectError)
    }
    expect(() => permissionsFor({ role: "loader", instance: "n1" }, "vs.>")).toThrow(SubjectError)
    const who = { role: "loader", instance: "n1" } as const
    const options = { port: 4222, storeDir: "/tmp/x" }
    expect(() => serverConfig({ ...options, identities: [{ ...who, publicKey: "UA" }] })).toThrow(
      /public nkey/,
    )
    expect(() => serverConfig({ ...options, identities: [] })).toThrow(/at least one user/)
    const { publicKey } = newUser()
    expect(() =>
      serverConfig({
        ...options,
        identities: [
          { ...who, publicKey },
          { ...who, publicKey },
        ],
      }),
    ).toThrow(/two users/)
    expect(serverConfig({ ...options, identities: [{ ...who, publicKey }] })).not.toMatch(
      /no_auth_user|allow_responses/,
    )
  })
})

describe("permissions, at a real server", () => {
  it("let a loader speak for its own node only", async () => {
    expect(await mayPublish("loader-n1", "vs.v1.hello.n1")).toBe(true)
    for (const subject of [
      "vs.v1.hello.n2",
      "vs.v1.pull.n2",
      "vs.v1.ack.n2",
      "vs.v1.stats.n2",
      "vs.v1.evidence.v1.n2",
      "vs.v1.attest.n2.loader-n1",
      "vs.v1.attest.n1.loader-n2",
      "vs.v1.attest.n1.verifier-v1",
      "vs.v1.event.loader-n2",
      "vs.v1.event.verifier-v1",
    ])
      expect([subject, await mayPublish("loader-n1", subject)]).toEqual([subject, false])
  })
  it("let a loader read its own releases only, and publish none", async () => {
    expect(await maySubscribe("loader-n1", "vs.v1.release.n1")).toBe(true)
    for (const subject of [
      "vs.v1.release.n2",
      "vs.v1.release.*",
      "vs.v1.>",
      ">",
      "vs.v1.hello.*",
      "vs.v1.event.*",
      "_INBOX.loader-n2.>",
      "_INBOX.>",
      "$KV.workflows.*",
      "$KV.collateral.*",
      "$KV.>",
    ])
      expect([subject, await maySubscribe("loader-n1", subject)]).toEqual([subject, false])
    for (const subject of ["vs.v1.release.n1", "vs.v1.release.n2", "vs.v1.beacon.r1", "$KV.workflows.lab"])
      expect([subject, await mayPublish("loader-n1", subject)]).toEqual([subject, false])
  })
  it("keep answers and other services' work from those who are not asked", async () => {
    expect(await maySubscribe("loader-n1", "vs.v1.evidence.v1.*")).toBe(false)
    expect(await maySubscribe("releaser-r1", "vs.v1.evidence.v1.*")).toBe(false)
    expect(await mayPublish("loader-n1", "_INBOX.loader-n2.x")).toBe(false)
    expect(await mayPublish("releaser-r1", "_INBOX.loader-n1.x")).toBe(false)
    expect(await mayPublish("auditor-lab", "_INBOX.loader-n1.x")).toBe(false)
    expect(await maySubscribe("attester-cp", "vs.v1.attest.n1.*")).toBe(false)
    expect(await maySubscribe("attester-n1", "vs.v1.attest.*.*")).toBe(false)
    expect(await maySubscribe("verifier-v1", "vs.v1.evidence.v2.*")).toBe(false)
    expect(await maySubscribe("verifier-v1", "vs.v1.hello.*", "verifier")).toBe(true)
    expect(await maySubscribe("verifier-v1", "vs.v1.release.*")).toBe(false)
    expect(await mayPublish("releaser-r1", "vs.v1.beacon.r2")).toBe(false)
  })
  it("let nobody change the streams but the operator, and nobody at all delete them", async () => {
    const names = Object.keys(users)
    for (const name of names) {
      const operator = name === "operator-lab"
      expect([name, await mayPublish(name, "$KV.workflows.lab")]).toEqual([name, operator])
      expect([name, await mayPublish(name, "$KV.collateral.amd-crl-Milan")]).toEqual([name, operator])
      expect([name, await mayPublish(name, "$JS.API.STREAM.UPDATE.KV_collateral")]).toEqual([name, operator])
      expect([name, await mayPublish(name, "$JS.API.STREAM.UPDATE.EVENTS")]).toEqual([name, operator])
      for (const subject of [
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.STREAM.SNAPSHOT.EVENTS",
        "$JS.API.STREAM.RESTORE.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.KV_workflows",
        "$JS.API.CONSUMER.CREATE.KV_collateral",
        "$JS.API.STREAM.PURGE.KV_collateral",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.INFO",
        "$KV.workflows.other",
        "$SYS.REQ.SERVER.PING",
      ])
        expect([name, subject, await mayPublish(name, subject)]).toEqual([name, subject, false])
    }
    expect(await mayPublish("loader-n1", "$JS.API.DIRECT.GET.EVENTS")).toBe(false)
    expect(await mayPublish("auditor-lab", "$JS.API.DIRECT.GET.EVENTS")).toBe(true)
    expect(await mayPublish("verifier-v1", "$JS.API.DIRECT.GET.KV_collateral")).toBe(true)
    expect(await mayPublish("auditor-lab", "$JS.API.DIRECT.GET.KV_collateral")).toBe(false)
  }, 60_000)
  it("refuse a client without a user", async () => {
    const { connect } = await import("../../services/common/bus/nats.ts")
    const stranger = connect({
      url: nats.url,
      seed: newUser().seed,
      name: "x",
      inboxPrefix: "_INBOX.x",
      onStatus: () => {},
    })
    await expect(stranger).rejects.toMatchObject({ reason: "Denied" })
  })
})

describe("a reply subject that is not the sender's", () => {
  const hello: Hello = {
    v: 1,
    domain: "lab",
    node: "n1",
    session: new Uint8Array(16),
    nonce: new Uint8Array(32),
    term: 0n,
  }

  it("gets no answer, and the handler never sees the request", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["auditor", "lab"],
      ],
      (verifier, auditor) =>
        Effect.gen(function* () {
          let handled = 0
          yield* verifier.serve("hello", {}, () =>
            Effect.sync(() => {
              handled++
              return { v: 1, kind: "refused", by: "verifier-v1", code: "NO", field: "", message: "" } as const
            }),
          )
          const events: string[] = []
          yield* auditor.subscribe(
            "event",
            { identity: "verifier-v1" },
            ({ data }) => Effect.sync(() => events.push(`${data.code}`)),
            { perSenderMax: 100 },
          )
          const loader = user("loader-n1")
          const victim = yield* Effect.promise(() => user("loader-n2").listen("vs.v1.release.n2"))
          const inbox = yield* Effect.promise(() => user("loader-n2").listen("_INBOX.loader-n2.>"))
          const refusedBefore = verifier.counters().violations
          for (const reply of [
            "vs.v1.release.n2",
            "_INBOX.loader-n2.abc",
            "vs.v1.event.verifier-v1",
            "$JS.API.STREAM.DELETE.EVENTS",
            undefined,
          ])
            loader.send("vs.v1.hello.n1", encode(Hello, hello), reply)
          loader.send("vs.v1.hello.n1", new Uint8Array([0xc1]), "_INBOX.loader-n2.abc")
          yield* Effect.promise(() => loader.settle())
          for (let i = 0; i < 1_000 && events.length < 6; i++) yield* Effect.sleep("10 millis")
          yield* Effect.sleep("100 millis")
          expect(handled).toBe(0)
          expect(victim).toEqual([])
          expect(inbox).toEqual([])
          expect(verifier.counters().violations).toBe(refusedBefore)
          expect(verifier.counters().refused).toEqual({ BAD_REPLY: 5, NO_REPLY: 1 })
          expect(events.sort()).toEqual([
            "BAD_REPLY",
            "BAD_REPLY",
            "BAD_REPLY",
            "BAD_REPLY",
            "BAD_REPLY",
            "NO_REPLY",
          ])
          const answer = yield* Effect.promise(() => loader.ask("vs.v1.hello.n1", encode(Hello, hello)))
          expect(answer.length).toBeGreaterThan(10)
          expect(handled).toBe(1)
        }),
    ))
})
