/** The data plane's portable parts in a host program, under the address and undefined-behaviour sanitizers. */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { poly1305 } from "@noble/ciphers/_poly1305.js"
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { verdictsHeader } from "../../schemas/generate/verdicts-header.ts"
import { limits } from "../../schemas/limits.ts"
import { VERDICTS_MAX } from "../../schemas/verdicts.ts"
import { SPI_MIN, VS_LAYOUT } from "../../services/common/kernel/records.ts"
import { vectors } from "../kernel/aead-vectors.ts"
import { aeadRequest, byteSource, concat, ETHERNET, hex } from "../kernel/packets.ts"
import { exactSteps, reconstructions } from "../kernel/window-table.ts"

let directory: string
let program: string

const compile = (
  compiler: string,
  flags: ReadonlyArray<string>,
): { readonly ok: boolean; readonly log: string } => {
  const run = spawnSync(
    compiler,
    ["-O2", "-g", "-Wall", "-Wextra", "-Werror", ...flags, "bpf/host.c", "-o", program],
    { encoding: "utf8" },
  )
  return { ok: run.status === 0, log: `${run.error ?? ""}${run.stderr ?? ""}` }
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-host-"))
  program = join(directory, "host")
  const sanitized = compile("clang-16", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
  if (sanitized.ok) return
  const plain = compile("clang-16", [])
  if (!plain.ok) throw new Error(`bpf/host.c does not compile: ${plain.log}`)
  console.warn(
    `NOT SANITIZED: bpf/host.c was compiled without sanitizers, which are missing here: ${sanitized.log}`,
  )
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const serve = (requests: ReadonlyArray<Uint8Array>): Uint8Array => {
  const run = spawnSync(program, ["serve"], { input: concat(...requests), maxBuffer: 1 << 26 })
  expect(run.stderr.toString()).toBe("")
  expect(run.status).toBe(0)
  return Uint8Array.from(run.stdout)
}

const u64 = (value: bigint): Uint8Array => {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return bytes
}
const letter = (op: string): Uint8Array => Uint8Array.of(op.charCodeAt(0))
/** The kernel's request without what stands there for an Ethernet header. */
const aead = (op: "s" | "o", ...rest: Parameters<typeof aeadRequest>): Uint8Array =>
  concat(letter(op), aeadRequest(...rest).subarray(ETHERNET))

test("bpf/verdicts.h is what the table of verdicts generates", () => {
  expect(readFileSync("bpf/verdicts.h", "utf8")).toBe(verdictsHeader())
})

test("bpf/consts.h has the bounds that user space has", () => {
  const text = readFileSync("bpf/consts.h", "utf8")
  const constant = (name: string): number =>
    Number(new RegExp(`^#define ${name} (\\d+)\\b`, "m").exec(text)?.[1])
  expect({
    nodeEdges: constant("VS_MAX_EDGES"),
    policies: constant("VS_MAX_POLICIES"),
    associations: constant("VS_MAX_SAS"),
    flows: constant("VS_MAX_FLOWS"),
    flowsPerEdge: constant("VS_MAX_EDGE_FLOWS"),
    lanes: constant("VS_MAX_LANES"),
    verdicts: constant("VS_MAX_VERDICTS"),
    layout: constant("VS_LAYOUT"),
    spi: constant("VS_SPI_MIN"),
  }).toEqual({
    nodeEdges: limits.nodeEdges,
    policies: limits.policies,
    associations: limits.associations,
    flows: limits.flows,
    flowsPerEdge: limits.flowsPerEdge,
    lanes: limits.lanes,
    verdicts: VERDICTS_MAX,
    layout: VS_LAYOUT,
    spi: SPI_MIN,
  })
})

test("the objects' bytes don't depend on where the checkout lies", () => {
  const copy = join(directory, "elsewhere")
  for (const part of ["bpf", "infra"]) cpSync(part, join(copy, part), { recursive: true })
  rmSync(join(copy, "bpf/build"), { recursive: true, force: true })
  for (const root of [".", copy]) expect(spawnSync("sh", [join(root, "infra/build-bpf.sh")]).status).toBe(0)
  for (const object of ["vouchsafe.bpf.o", "aead-test.bpf.o"]) {
    const here = readFileSync(join("bpf/build", object))
    expect(here.equals(readFileSync(join(copy, "bpf/build", object))), object).toBe(true)
    expect(here.includes(resolve("."))).toBe(false)
  }
})

describe("ChaCha20-Poly1305", () => {
  for (const { name, key, nonce, associated, text, sealed, tag } of vectors)
    test(name, () => {
      const there = serve([aead("s", key, nonce, associated, text)])
      expect(there).toEqual(concat(new Uint8Array(4), sealed, tag))
      const back = serve([aead("o", key, nonce, associated, sealed, tag)])
      expect(back.subarray(0, 4 + text.length)).toEqual(concat(new Uint8Array(4), text))
    })

  test("every length up to 320 and around every power of two up to the longest, sealed and opened", () => {
    const bytes = byteSource(0xb0b)
    const powers = [512, 1024, 2048, 4096, 8192].flatMap((n) => [n - 16, n - 1, n, n + 1, n + 17])
    const lengths = [...Array.from({ length: 321 }, (_, i) => i), ...powers, 10_176, 10_239, 10_240]
    const cases = lengths.map((length) => {
      const [key, nonce, associated, text] = [bytes(32), bytes(12), bytes(length % 17), bytes(length)]
      return { key, nonce, associated, text, sealed: chacha20poly1305(key, nonce, associated).encrypt(text) }
    })
    const there = serve(cases.map((c) => aead("s", c.key, c.nonce, c.associated, c.text)))
    const expected = concat(...cases.map((c) => concat(new Uint8Array(4), c.sealed)))
    expect(Buffer.from(there).equals(expected)).toBe(true)
    const back = serve(
      cases.map((c) => aead("o", c.key, c.nonce, c.associated, c.sealed.slice(0, -16), c.sealed.slice(-16))),
    )
    let at = 0
    for (const { text } of cases) {
      expect(
        Buffer.from(back.subarray(at, at + 4 + text.length)).equals(concat(new Uint8Array(4), text)),
      ).toBe(true)
      at += 4 + text.length + 16
    }
  })

  test("every length of text from 0 to 65 with every length of associated data from 0 to 16", () => {
    const bytes = byteSource(0xcafe)
    const cases = Array.from({ length: 66 * 17 }, (_, i) => {
      const [key, nonce, associated, text] = [bytes(32), bytes(12), bytes(i % 17), bytes(Math.floor(i / 17))]
      return { key, nonce, associated, text, sealed: chacha20poly1305(key, nonce, associated).encrypt(text) }
    })
    const there = serve(cases.map((c) => aead("s", c.key, c.nonce, c.associated, c.text)))
    const expected = concat(...cases.map((c) => concat(new Uint8Array(4), c.sealed)))
    expect(Buffer.from(there).equals(expected)).toBe(true)
  })

  test("nonces and keys of all zeros, all ones, and ones at their ends", () => {
    const edge = (length: number) => {
      const first = new Uint8Array(length)
      const last = new Uint8Array(length)
      first[0] = 0x80
      last[length - 1] = 1
      return [new Uint8Array(length), new Uint8Array(length).fill(0xff), first, last]
    }
    const cases = edge(32).flatMap((key) =>
      edge(12).flatMap((nonce) =>
        edge(129).flatMap((text) => edge(12).map((associated) => ({ key, nonce, text, associated }))),
      ),
    )
    const there = serve(cases.map((c) => aead("s", c.key, c.nonce, c.associated, c.text)))
    const expected = cases.map((c) =>
      concat(new Uint8Array(4), chacha20poly1305(c.key, c.nonce, c.associated).encrypt(c.text)),
    )
    expect(Buffer.from(there).equals(concat(...expected))).toBe(true)
  })

  test("one bit that is other than it was, anywhere: not authentic, and nothing is decrypted", () => {
    const bytes = byteSource(0xf11b)
    const flipped = (of: Uint8Array) =>
      Array.from({ length: 8 * of.length }, (_, bit) =>
        of.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
      )
    for (const length of [0, 1, 16, 33]) {
      const [key, nonce, associated, text] = [bytes(32), bytes(12), bytes(12), bytes(length)]
      const sealed = chacha20poly1305(key, nonce, associated).encrypt(text)
      const [body, tag] = [sealed.slice(0, -16), sealed.slice(-16)]
      const cases = [
        ...flipped(tag).map((each) => ({ key, nonce, associated, body, tag: each })),
        ...flipped(body).map((each) => ({ key, nonce, associated, body: each, tag })),
        ...flipped(associated).map((each) => ({ key, nonce, associated: each, body, tag })),
        ...flipped(nonce).map((each) => ({ key, nonce: each, associated, body, tag })),
        ...flipped(key).map((each) => ({ key: each, nonce, associated, body, tag })),
        // A tag cut short is followed by zeros; tags of nothing but zeros or ones.
        ...[0, 8, 12, 15].map((kept) => ({
          key,
          nonce,
          associated,
          body,
          tag: tag.map((byte, i) => (i < kept ? byte : 0)),
        })),
        { key, nonce, associated, body, tag: new Uint8Array(16).fill(0xff) },
      ]
      const out = serve(cases.map((c) => aead("o", c.key, c.nonce, c.associated, c.body, c.tag)))
      const size = 4 + length + 16
      const wrong = cases.filter((c, i) => {
        const answer = out.subarray(i * size, (i + 1) * size)
        return answer[0] !== 1 || Buffer.compare(answer.subarray(4, 4 + length), c.body) !== 0
      })
      expect(wrong).toEqual([])
    }
  })

  test("Poly1305 at its limits: the largest multiplier, texts of all ones, sums around the prime", () => {
    const bytes = byteSource(0xfeed)
    const fill = (value: number, length: number): Uint8Array => new Uint8Array(length).fill(value)
    const multipliers = [
      fill(0xff, 16),
      fill(0, 16),
      hex("01 000000000000000000000000000000"),
      bytes(16),
      bytes(16),
    ]
    // Each 26-, 32-, 44- and 64-bit limb at its largest, the others at zero, after clamping.
    for (const width of [26, 32, 44, 64])
      for (let from = 0; from < 128; from += width) {
        const limb = new Uint8Array(16)
        for (let bit = from; bit < Math.min(from + width, 128); bit++)
          limb[bit >> 3] = (limb[bit >> 3] ?? 0) | (1 << (bit & 7))
        multipliers.push(limb)
      }
    const pads = [fill(0xff, 16), fill(0, 16), bytes(16)]
    const blocks = [
      fill(0xff, 16),
      fill(0, 16),
      concat(hex("fb"), fill(0xff, 15)),
      concat(hex("fa"), fill(0xff, 15)),
    ]
    const texts = [0, 1, 2, 3, 40, 640].flatMap((count) =>
      blocks.map((block) => concat(...Array.from({ length: count }, () => block))),
    )
    const cases = multipliers.flatMap((r) =>
      pads.flatMap((pad) => texts.map((text) => ({ key: concat(r, pad), text }))),
    )
    const there = serve(
      cases.map(({ key, text }) => concat(letter("p"), key, u64(BigInt(text.length)).subarray(0, 4), text)),
    )
    const expected = cases.map(({ key, text }) =>
      poly1305(concat(text, new Uint8Array(8), u64(BigInt(text.length))), key),
    )
    expect(Buffer.from(there).equals(concat(...expected))).toBe(true)
  })
})

describe("the anti-replay window", () => {
  for (const [title, steps] of exactSteps)
    test(title, () => {
      const answers = serve([letter("z"), ...steps.map(([sequence]) => concat(letter("w"), u64(sequence)))])
      expect(Array.from(steps, (_, i) => [i + 1, answers[2 * i], answers[2 * i + 1]])).toEqual(
        steps.map(([, accepted], i) => [i + 1, Number(accepted), Number(accepted)]),
      )
    })

  test("the high half of a sequence number, every row of the table", () => {
    const out = serve(
      reconstructions.map(([, top, low]) => concat(letter("r"), u64(top), u64(low).subarray(0, 4))),
    )
    const view = new DataView(out.buffer)
    expect(reconstructions.map(([title], i) => [title, view.getBigUint64(8 * i, true)])).toEqual(
      reconstructions.map(([title, , , sequence]) => [title, sequence]),
    )
  })
})

test("hostile packets: 200,000 rounds through parsers and padding break no rule and touch no foreign byte", () => {
  const run = spawnSync(program, ["fuzz", "200000", "20261123"], { encoding: "utf8" })
  expect(run.stderr).toBe("")
  expect(run.stdout).toBe("200000 rounds\n")
})
