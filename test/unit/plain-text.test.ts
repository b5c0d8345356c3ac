/** What strangers say reaches screens and logs as text: it moves no cursor, breaks no line, and says nothing in our name. */
import { afterEach, describe, expect, it, vi } from "vitest"
import type { Stats } from "../../schemas/messages/stats.ts"
import { statusLines } from "../../services/cli/bus-commands.ts"
import { createOutput, warn } from "../../services/cli/output.ts"
import { line } from "../../services/common/process/log.ts"
import { plainJson, plainLine } from "../../services/common/process/plain-text.ts"

/** Clear the screen, a line of one's own, CSI in one byte, writing backwards, a line separator, an invisible tag, half a pair. */
const hostile = "\u001b[2J\nn9 released\u009b2K\u202eabc\u2028\u{e0041}\ud800\u007f"
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u

const written = (stream: "stdout" | "stderr", act: () => void): string => {
  let text = ""
  vi.spyOn(process[stream], "write").mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  act()
  return text
}
afterEach(() => vi.restoreAllMocks())

const stats: Stats = {
  v: 1,
  node: "n1",
  stage: hostile,
  state: "denied",
  backend: hostile.slice(0, 10),
  dataplane: hostile,
  edges: [],
  verdicts: {},
}

describe("a stranger's text", () => {
  it("is one line, with nothing in it that a terminal obeys", () => {
    expect(plainLine(`a${hostile}é漢`)).toBe(
      "a\\u{1b}[2J\\u{a}n9 released\\u{9b}2K\\u{202e}abc\\u{2028}\\u{e0041}\\u{d800}\\u{7f}é漢",
    )
  })

  it("is the same value in JSON", () => {
    const json = JSON.stringify({ [hostile]: [hostile, "é"] }, null, 2)
    const plain = plainJson(json)
    expect(JSON.parse(plain)).toEqual(JSON.parse(json))
    expect(plain.replaceAll("\n", "")).not.toMatch(unsafe)
    expect(plain.split("\n")).toHaveLength(json.split("\n").length)
  })

  it.each([false, true])("makes no line of its own in a command's result, json %s", (json) => {
    const out = createOutput(json)
    const lines = statusLines([stats])
    const text = written("stdout", () => {
      out.result([stats], lines)
      out.item(stats, lines.join(""))
    })
    expect(text.replaceAll("\n", "")).not.toMatch(unsafe)
    expect(text.split("\n").some((each) => each.startsWith("n9"))).toBe(false)
    if (!json) expect(text.split("\n")).toHaveLength(lines.length + 2)
  })

  it("commands no terminal from an error's message, which may have several lines", () => {
    const text = written("stderr", () => warn(`one\ntwo ${hostile}`))
    expect(text.replaceAll("\n", "")).not.toMatch(unsafe)
    expect(text.split("\n")[0]).toBe("one")
  })

  it.each(["text", "json"] as const)("doesn't speak for the service in its log of %s", (format) => {
    const own = { time: "now", level: "WARN", service: "attester", message: "no Evidence was given" }
    const fields = { message: hostile, service: "verifier", level: "INFO", time: "then", cause: "none" }
    const text = line({ ...own, fields, cause: undefined }, format)
    expect(text.slice(0, -1)).not.toMatch(unsafe)
    if (format === "json") expect(JSON.parse(text)).toMatchObject({ ...own, field_message: hostile })
    else expect(text).toMatch(/^now WARN {2}attester: no Evidence was given /)
  })
})
