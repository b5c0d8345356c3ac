/**
 * What a packet costs in the product's programs: sealed and opened through vs_seal and vs_open by BPF_PROG_TEST_RUN, one packet
 * a call, minus an empty program; the same programs without a cipher; and OpenSSL's cipher on as many bytes, scalar and SIMD.
 * Rounds are interleaved, so that a change of the machine's mood meets all of them alike.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { parseArgs } from "node:util"
import { Attr, bpf, command } from "../../services/common/kernel/bpf.ts"
import { loadObject } from "../../services/common/kernel/libbpf.ts"
import { measureObject } from "../../services/common/kernel/measure.ts"
import {
  byteSource,
  concat,
  esp,
  frame,
  outerPacket,
  TCP,
  trailerFor,
  UDP,
  udpPacket,
} from "../kernel/packets.ts"
import {
  edge1,
  edge2,
  fromPeer,
  OBJECT,
  OWN_PORT,
  own,
  PEER_PORT,
  Plane,
  peer,
  REDIRECT,
} from "../kernel/plane.ts"
import { buildNullObject, buildOpenssl, Openssl } from "./ciphers.ts"
import { machine, quantile } from "./machine.ts"
import { barPlot } from "./plot.ts"
import { table } from "./table.ts"

const sizes = [64, 256, 512, 1024, 1408] as const
const rounds = 60
const callsEach = 25
/** A vector unit that has slept is slow to wake: more packets, and their median. */
const opensslTimes = 8
const warmUp = 3
const targets = { ratio: 1.45, policy_only_ns: 150 } as const

/** Runs a program on one packet again and again, without anything between that would empty the caches. */
class Runner {
  readonly #attr: Attr
  readonly #packet: Uint8Array
  readonly #expected: number

  constructor(programFd: number, length: number, expected: number) {
    this.#packet = new Uint8Array(length)
    this.#expected = expected
    this.#attr = new Attr(80).u32(0, programFd).u32(8, length).pointer(16, this.#packet).u32(32, 1)
  }

  /** ns that the program took. */
  run(packet: Uint8Array): number {
    this.#packet.set(packet)
    bpf(command.PROG_TEST_RUN, this.#attr, "test run", "bench")
    const retval = this.#attr.readU32(4)
    if (retval !== this.#expected) throw new Error(`a program gave ${retval} instead of ${this.#expected}`)
    return this.#attr.readU32(36)
  }
}

const planeOf = (path: string): Plane => {
  const plane = new Plane(path).configure()
  for (const protocol of [TCP, UDP]) {
    plane.allow({ peer, port: PEER_PORT, protocol, role: 0 }, 1)
    plane.allow({ peer, port: OWN_PORT, protocol, role: 1 }, 2)
  }
  for (const keys of [edge1, edge2]) plane.endpoint(keys.edge).keys(keys)
  return plane
}

/** One series: packets of one size through one program. */
interface Series {
  readonly next: () => number
  readonly samples: number[]
}
type Names = "empty" | "seal" | "open" | "null_seal" | "null_open"

const random = byteSource(0xbe7c)
let sequence = 0n

const seriesOf = (size: number, ours: Plane, none: Plane, empty: number): Readonly<Record<Names, Series>> => {
  const request = frame(
    udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, random(size - 28)),
  )
  const incoming = udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, random(size - 28))
  const sealed = (): Uint8Array => frame(outerPacket(fromPeer(), esp(edge2.in, ++sequence, incoming)))
  // As the null cipher would have sealed it: headers of a sealed packet, the text in plain, any tag.
  const plain = (): Uint8Array => {
    const whole = sealed()
    whole.set(concat(incoming, trailerFor(incoming.length)), 14 + 20 + 8 + 16)
    return whole
  }
  const series = (
    plane: Plane | undefined,
    program: "vs_seal" | "vs_open",
    make: () => Uint8Array,
  ): Series => {
    const fd = plane === undefined ? empty : plane.object.programFd(program)
    const runner = new Runner(fd, make().length, plane === undefined ? 0 : REDIRECT)
    return { next: () => runner.run(make()), samples: [] }
  }
  return {
    empty: series(undefined, "vs_seal", () => request),
    seal: series(ours, "vs_seal", () => request),
    open: series(ours, "vs_open", sealed),
    null_seal: series(none, "vs_seal", () => request),
    null_open: series(none, "vs_open", plain),
  }
}

export const measureAead = async (howMany: { rounds: number; calls: number }) => {
  const directory = mkdtempSync(join(tmpdir(), "vouchsafe-bench-"))
  const closers: Array<() => void> = [() => rmSync(directory, { recursive: true, force: true })]
  try {
    const nullObject = buildNullObject(directory)
    const [digest, nullDigest] = [OBJECT, nullObject].map((path) => Buffer.from(measureObject(path).digest))
    if (digest === undefined || nullDigest === undefined || digest.equals(nullDigest))
      throw new Error("the build without a cipher measures as the product does")
    const [ours, none] = [planeOf(OBJECT), planeOf(nullObject)]
    closers.push(
      () => ours.close(),
      () => none.close(),
    )
    const empty = loadObject("bpf/build/aead-test.bpf.o")
    closers.push(() => empty.close())
    const program = buildOpenssl(directory)
    const scalar = await Openssl.start(program, true)
    closers.push(() => scalar.close())
    const simd = await Openssl.start(program, false)
    closers.push(() => simd.close())

    const all = sizes.map((bytes) => ({
      bytes,
      ours: seriesOf(bytes, ours, none, empty.programFd("test_empty")),
      openssl: { scalar: [] as number[], simd: [] as number[], endless: [] as number[] },
    }))
    for (let round = -warmUp; round < howMany.rounds; round++)
      for (const { bytes, ours, openssl } of all) {
        for (const each of Object.values(ours))
          for (let i = 0; i < howMany.calls; i++) {
            const ns = each.next()
            if (round >= 0) each.samples.push(ns)
          }
        const [one, two] = [
          await scalar.time(bytes, howMany.calls * opensslTimes),
          await simd.time(bytes, howMany.calls * opensslTimes),
        ]
        if (round < 0) continue
        openssl.scalar.push(one.packet)
        openssl.endless.push(one.endless)
        openssl.simd.push(two.packet)
      }
    return { openssl: scalar.version, sizes: all.map(summary), digest: digest.toString("hex") }
  } finally {
    for (const close of closers.reverse()) close()
  }
}

const summary = (one: {
  readonly bytes: number
  readonly ours: Readonly<Record<Names, Series>>
  readonly openssl: { readonly scalar: number[]; readonly simd: number[]; readonly endless: number[] }
}) => {
  const nothing = quantile(one.ours.empty.samples, 0.5)
  const at = (name: Names, part: number): number => quantile(one.ours[name].samples, part) - nothing
  const [seal, open, scalar] = [at("seal", 0.5), at("open", 0.5), quantile(one.openssl.scalar, 0.5)]
  const [cipherSeal, cipherOpen] = [seal - at("null_seal", 0.5), open - at("null_open", 0.5)]
  return {
    bytes: one.bytes,
    seal_ns: seal,
    open_ns: open,
    seal_p99_ns: at("seal", 0.99),
    open_p99_ns: at("open", 0.99),
    policy_seal_ns: at("null_seal", 0.5),
    policy_open_ns: at("null_open", 0.5),
    cipher_seal_ns: cipherSeal,
    cipher_open_ns: cipherOpen,
    openssl_scalar_ns: scalar,
    openssl_scalar_endless_ns: quantile(one.openssl.endless, 0.5),
    openssl_simd_ns: quantile(one.openssl.simd, 0.5),
    seal_ratio: Number((seal / scalar).toFixed(2)),
    open_ratio: Number((open / scalar).toFixed(2)),
    cipher_ratio: Number((Math.max(cipherSeal, cipherOpen) / scalar).toFixed(2)),
  }
}

type Summary = ReturnType<typeof summary>

const plotOf = (rows: readonly Summary[]): string =>
  barPlot({
    title: "One packet: sealing, opening, and OpenSSL on the same bytes",
    unit: "ns, median",
    groups: rows.map(({ bytes }) => `${bytes} B`),
    series: [
      { name: "vs_seal", values: rows.map((row) => row.seal_ns) },
      { name: "vs_open", values: rows.map((row) => row.open_ns) },
      { name: "vs_seal, no cipher", values: rows.map((row) => row.policy_seal_ns) },
      { name: "vs_open, no cipher", values: rows.map((row) => row.policy_open_ns) },
      { name: "OpenSSL scalar", values: rows.map((row) => row.openssl_scalar_ns) },
      { name: "OpenSSL SIMD", values: rows.map((row) => row.openssl_simd_ns) },
    ],
  })

const linesOf = (rows: readonly Summary[], policyOnly: number): readonly string[] => {
  const longest = rows.at(-1)
  const worst = Math.max(longest?.seal_ratio ?? Number.NaN, longest?.open_ratio ?? Number.NaN)
  const head = [
    "bytes",
    "seal ns",
    "p99",
    "open ns",
    "p99",
    "no cipher: seal",
    "open",
    "OpenSSL scalar",
    "endless",
    "SIMD",
    "seal/scalar",
    "open/scalar",
    "cipher/scalar",
  ]
  const cells = rows.map((row) => [
    row.bytes,
    row.seal_ns,
    row.seal_p99_ns,
    row.open_ns,
    row.open_p99_ns,
    row.policy_seal_ns,
    row.policy_open_ns,
    row.openssl_scalar_ns,
    row.openssl_scalar_endless_ns,
    row.openssl_simd_ns,
    row.seal_ratio.toFixed(2),
    row.open_ratio.toFixed(2),
    row.cipher_ratio.toFixed(2),
  ])
  const mark = (good: boolean): string => (good ? "met" : "MISSED")
  return [
    ...table(head, cells),
    "",
    `at ${longest?.bytes} B, whole program / OpenSSL's scalar cipher: ${worst.toFixed(2)}; target ${targets.ratio}: ${mark(worst <= targets.ratio)}`,
    `policy, parsing, replay and headers at 64 B, no cipher: ${policyOnly} ns; target ${targets.policy_only_ns}: ${mark(policyOnly <= targets.policy_only_ns)}`,
  ]
}

export const benchAead = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      plot: { type: "string", default: ".cache/bench/aead.svg" },
    },
  })
  const before = machine()
  const { openssl, sizes: rows, digest } = await measureAead({ rounds, calls: callsEach })
  const policyOnly = Math.max(rows[0]?.policy_seal_ns ?? Number.NaN, rows[0]?.policy_open_ns ?? Number.NaN)
  mkdirSync(dirname(values.plot), { recursive: true })
  writeFileSync(values.plot, plotOf(rows))
  const result = {
    bench: "aead",
    machine: { ...before, load_after: machine().load },
    openssl,
    object: digest,
    samples: rounds * callsEach,
    sizes: rows,
    policy_only_ns: policyOnly,
    plot: values.plot,
  }
  if (values.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
  else
    process.stdout.write(
      [
        `${before.cpu}, ${before.cores} cores, Linux ${before.kernel}, ${openssl}, load ${before.load.join(" ")}`,
        `medians of ${result.samples} packets, in ${rounds} interleaved rounds, minus an empty program`,
        "",
        ...linesOf(rows, policyOnly),
        `plot: ${values.plot}`,
        "",
      ].join("\n"),
    )
}
