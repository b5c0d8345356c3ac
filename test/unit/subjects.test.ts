import { describe, expect, it } from "vitest"
import { SubjectError } from "../../schemas/pattern.ts"
import { type SubjectName, subjects } from "../../schemas/subjects.ts"
import {
  filter,
  identity,
  inbox,
  insideInbox,
  parse,
  senderOf,
  subject,
} from "../../services/common/bus/subject.ts"

const bad = [
  "",
  ".",
  "a.b",
  "a..b",
  "*",
  ">",
  "a*",
  "a b",
  "a\tb",
  "a\r\nPUB x 1\r\n",
  "a\n",
  "é",
  "a".repeat(65),
  "{node}",
  "$KV",
]

describe("the builder", () => {
  it("fills in the table's patterns", () => {
    expect(subject("vs.v1", "hello", { node: "n1" })).toBe("vs.v1.hello.n1")
    expect(subject("x", "evidence", { instance: "v1", node: "n-1_A" })).toBe("x.evidence.v1.n-1_A")
    expect(filter("vs.v1", "attest", { node: "n1" })).toBe("vs.v1.attest.n1.*")
    expect(filter("vs.v1", "hello", {})).toBe("vs.v1.hello.*")
  })
  it.each(bad)("throws for the token %j, wherever it is", (token) => {
    expect(() => subject("vs.v1", "hello", { node: token })).toThrow(SubjectError)
    expect(() => subject("vs.v1", "attest", { node: "n1", identity: token })).toThrow(SubjectError)
    expect(() => subject(token === "a.b" ? "a..b" : token, "hello", { node: "n1" })).toThrow(SubjectError)
    expect(() => identity("loader", token)).toThrow(SubjectError)
    expect(() => inbox(token)).toThrow(SubjectError)
    if (token !== "*") expect(() => filter("vs.v1", "hello", { node: token })).toThrow(SubjectError)
  })
  it("throws for what is no text at all", () => {
    for (const token of [undefined, null, 1, {}, ["a"], { toString: () => "n1" }])
      expect(() => subject("vs.v1", "hello", { node: token as never })).toThrow(SubjectError)
  })
  it("refuses an identity that is longer than a token", () => {
    expect(() => identity("operator", "a".repeat(60))).toThrow(SubjectError)
  })
})

describe("a subject that arrived", () => {
  it.each(Object.keys(subjects) as SubjectName[])(
    "of %s is parsed back to what it was built from",
    (name) => {
      const tokens = {
        node: "n1",
        instance: "v1",
        identity: "loader-n1",
        domain: "lab",
        key: "amd-crl-Milan",
        digest: "0d".repeat(32),
      }
      const text = subject("vs.v1", name, tokens)
      expect(tokens).toMatchObject(parse("vs.v1", name, text) ?? {})
      expect(subject("vs.v1", name, parse("vs.v1", name, text) as never)).toBe(text)
      for (const other of [
        `${text}.x`,
        text.slice(0, -1).replace(/[^.]+$/, ""),
        text.replace("vs.v1", "vs.v2"),
        `${text}\n`,
        text.replace(/[^.]+$/, "*"),
      ])
        expect(parse("vs.v1", name, other)).toBeUndefined()
    },
  )
  it("names its sender by the table", () => {
    expect(senderOf("hello", { node: "n1" })).toBe("loader-n1")
    expect(senderOf("evidence", { instance: "v1", node: "n1" })).toBe("loader-n1")
    expect(senderOf("beacon", { instance: "r1" })).toBe("releaser-r1")
    expect(senderOf("release", { node: "n1" })).toBeUndefined()
    expect(senderOf("attest", { node: "n1", identity: "loader-n1" })).toBe("loader-n1")
    expect(senderOf("attest", { node: "n1", identity: "verifier-v1" })).toBe("verifier-v1")
    expect(senderOf("attest", { node: "n1", identity: "loader-n2" })).toBeNull()
    expect(senderOf("attest", { node: "n1", identity: "auditor-lab" })).toBeNull()
    expect(senderOf("event", { identity: "auditor-lab" })).toBe("auditor-lab")
    expect(senderOf("event", { identity: "stranger" })).toBeNull()
  })
})

describe("a reply subject", () => {
  it("is inside the sender's inbox or nowhere", () => {
    expect(insideInbox("_INBOX.loader-n1.ABC", "loader-n1")).toBe(true)
    expect(insideInbox("_INBOX.loader-n1.ABC.d-1", "loader-n1")).toBe(true)
    for (const reply of [
      "",
      "_INBOX.loader-n1",
      "_INBOX.loader-n1.",
      "_INBOX.loader-n1.*",
      "_INBOX.loader-n1.>",
      "_INBOX.loader-n1..a",
      "_INBOX.loader-n10.a",
      "_INBOX.loader-n2.a",
      "vs.v1.release.n1",
      "$JS.API.STREAM.DELETE.EVENTS",
      "x_INBOX.loader-n1.a",
    ])
      expect(insideInbox(reply, "loader-n1")).toBe(false)
  })
})
