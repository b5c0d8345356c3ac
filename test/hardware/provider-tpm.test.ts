/** The TPM as an attester uses it, against one that others wrote (swtpm): its keys, its logs, its failures. */
import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import type { TpmPiece } from "../../schemas/messages/common.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { newUser } from "../../services/common/bus/bus.ts"
import { tpmExtraData } from "../../services/evidence/appraisal/report-data.ts"
import { verifyPieces } from "../../services/evidence/appraisal/verify-pieces.ts"
import {
  bindTpmQuote,
  launchGuest,
  parseEventLog,
  type VerifiedTpmQuote,
  verifyTpmQuote,
} from "../../services/evidence/index.ts"
import {
  type AttestationProvider,
  azureVtpm,
  combined,
  ProviderError,
  type TpmOptions,
  tpm,
} from "../../services/evidence/providers/index.ts"
import { TpmError } from "../../services/evidence/tpm/index.ts"
import { akTemplate } from "../../services/evidence/tpm/templates.ts"
import { snpEvidence } from "../support/evidence-pieces.ts"
import {
  certifyAk,
  haveOpenssl,
  haveSoftwareTpm,
  type SoftwareTpm,
  startSoftwareTpm,
} from "../support/software-tpm.ts"
import { haveVectors, makeChip, makeRoot, measurement, readVector } from "../unit/evidence-support.ts"

if (!haveSoftwareTpm) console.warn("NO TPM TESTED: swtpm isn't installed (apt: swtpm)")
if (!haveOpenssl) console.warn("NO CERTIFIED KEYS TESTED: openssl isn't installed")

const MAIN = fileURLToPath(new URL("../../services/attester/main.ts", import.meta.url))
const haveLine = spawnSync("which", ["socat"]).status === 0
const reportData = Uint8Array.from({ length: 64 }, (_, i) => 200 - i)
const securityDirectory = "/proc/nonexistent"

const refusal = async (act: Promise<unknown>): Promise<ProviderError | TpmError> => {
  try {
    await act
  } catch (error) {
    if (error instanceof ProviderError || error instanceof TpmError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

const pieceOf = async (provider: AttestationProvider, data = reportData): Promise<TpmPiece> => {
  const piece = (await provider.attest(data)).find(({ kind }) => kind === "tpm")
  if (piece?.kind !== "tpm") throw new Error("no TPM piece")
  return piece
}

/** As a verifier does that knows what was asked. */
const verified = (piece: TpmPiece, data = reportData): VerifiedTpmQuote => {
  const values = new Map(
    piece.pcrs.filter(({ bank }) => bank === "sha256").map(({ index, value }) => [index, value]),
  )
  const quote = verifyTpmQuote(
    { attest: piece.attest, signature: piece.signature, akPublic: piece.ak, pcrs: { sha256: values } },
    { nonce: tpmExtraData(data), selection: [{ bank: "sha256", pcrs: [...values.keys()] }] },
  )
  if (quote instanceof TpmError) throw quote
  return quote
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash("sha256").update(bytes).digest()

const paravisorData = (runtime: Uint8Array): Uint8Array => {
  const data = new Uint8Array(64)
  data.set(sha256(runtime))
  return data
}

/** The blob as Azure's paravisor lays it out. */
const hclReport = (report: Uint8Array, runtime: Uint8Array): Uint8Array => {
  const size = 32 + 1_184 + 20 + runtime.length
  const blob = Buffer.alloc(size + 64)
  blob.write("HCLA", 0, "latin1")
  const words = (at: number, ...values: readonly number[]) =>
    values.forEach((value, i) => void blob.writeUInt32LE(value, at + 4 * i))
  words(4, 2, size, 2)
  blob.set(report, 32)
  words(32 + 1_184, 20 + runtime.length, 1, 2, 1, runtime.length)
  blob.set(runtime, 32 + 1_184 + 20)
  return Uint8Array.from(blob)
}

describe.runIf(haveSoftwareTpm)("a TPM as provider", () => {
  let machine: SoftwareTpm
  const providers: AttestationProvider[] = []
  const open = async (options: TpmOptions = {}): Promise<AttestationProvider> => {
    const provider = await tpm({ device: machine.socket, securityDirectory, ...options })
    providers.push(provider)
    return provider
  }

  beforeEach(async () => {
    machine = await startSoftwareTpm()
  })
  afterEach(async () => {
    for (const provider of providers.splice(0)) await provider.close()
    await machine.stop()
  })

  it("quotes all registers over the report data, by the same key each time", async () => {
    const provider = await open()
    expect(provider).toMatchObject({ platform: "tpm", emulated: true })
    expect(provider.about).toContain("SOFTWARE TPM")
    const piece = await pieceOf(provider)
    expect(piece.pcrs).toHaveLength(24)
    expect(piece).toMatchObject({ certificates: [] })
    expect(Object.keys(piece)).not.toContain("boot_log")
    const quote = verified(piece)
    expect(quote.ak.hierarchy).toBe("endorsement")
    expect(bindTpmQuote(quote, { kind: "named-key", keyDigests: [quote.ak.digest] })).toMatchObject({
      kind: "named-key",
    })
    await provider.close()
    expect(verified(await pieceOf(await open())).ak.digest).toBe(quote.ak.digest)
  })

  it("answers one question only, and says what the registers hold now", async () => {
    await machine.prepare((_, { extend }) => extend(16, new Uint8Array(32).fill(5)))
    const provider = await open({ selection: [{ bank: "sha256", pcrs: [0, 16] }] })
    const other = new Uint8Array(64)
    const piece = await pieceOf(provider, other)
    expect(() => verified(piece)).toThrow(/extraData/)
    const registers = verified(piece, other).pcrs.sha256
    expect(registers?.get(16)).not.toEqual(new Uint8Array(32))
    expect(registers?.get(0)).toEqual(new Uint8Array(32))
    expect(registers?.size).toBe(2)
  })

  it("loads a persistent key, one of a template, and those of other kinds", async () => {
    const digest = await machine.prepare(async (device, { persist, writeNv }) => {
      const ak = await device.createAk("rsassa-2048")
      await persist(ak.handle, 0x8100_0003)
      await device.flush(ak.handle)
      await writeNv(0x01c1_0001, akTemplate("rsassa-2048"))
      return ak.public.name
    })
    const persistent = await open({ ak: { from: "handle", handle: 0x8100_0003 } })
    expect(persistent.about).toContain(Buffer.from(digest).toString("hex"))
    const first = verified(await pieceOf(persistent))
    await persistent.close()
    const made = await open({ ak: { from: "template", index: 0x01c1_0001 } })
    expect(verified(await pieceOf(made)).ak.digest).toBe(first.ak.digest)
    await made.close()
    const pss = await open({ ak: { from: "seed", kind: "rsapss-2048" } })
    expect(verified(await pieceOf(pss)).scheme).toBe("RSAPSS")
  })

  it("names what isn't there", async () => {
    expect(await refusal(open({ ak: { from: "handle", handle: 0x8100_0099 } }))).toMatchObject({
      code: "DEVICE_REFUSED",
    })
    expect(await refusal(open({ ak: { from: "template", index: 0x01c1_0099 } }))).toMatchObject({
      code: "ABSENT",
      field: "nv:0x01c10099",
    })
    expect(await refusal(open({ certificates: [{ from: "nv", index: 0x01c1_0099 }] }))).toMatchObject({
      code: "ABSENT",
    })
    expect(
      await refusal(open({ certificates: [{ from: "file", path: "/proc/nonexistent/x" }] })),
    ).toMatchObject({
      code: "INPUT",
      found: "ENOENT",
    })
    expect(
      await refusal(open({ selection: [{ bank: "sha256", pcrs: [24] }] }).then((p) => p.attest(reportData))),
    ).toMatchObject({ code: "DEVICE_INPUT" })
  })

  it.runIf(haveOpenssl)("brings the certificates of its key, from NV and files, and no others", async () => {
    const ca = await machine.prepare(async (device, { writeNv }) => {
      const ak = await device.createAk("ecdsa-p256")
      const certified = certifyAk(machine.directory, ak.public)
      const [leaf = new Uint8Array(0)] = certified.certificates
      // NV indices are often larger than what stands in them.
      await writeNv(0x01c1_0000, Uint8Array.from([...leaf, ...new Uint8Array(200).fill(0xff)]))
      await device.flush(ak.handle)
      return certified
    })
    const provider = await open({
      certificates: [
        { from: "nv", index: 0x01c1_0000 },
        { from: "file", path: ca.issuerFile },
      ],
    })
    const piece = await pieceOf(provider)
    expect(piece.certificates).toEqual(ca.certificates)
    const quote = verified(piece)
    const bound = (keyDigest: string) =>
      bindTpmQuote(quote, {
        kind: "certified-ak",
        certificates: piece.certificates,
        issuers: [{ name: "the test's", keyDigest }],
        now: new Date(),
      })
    expect(bound(ca.issuerDigest)).toMatchObject({ kind: "certified-ak" })
    expect(bound("00".repeat(32))).toMatchObject({ code: "ISSUER_UNKNOWN" })
    await provider.close()
    const foreign = open({
      ak: { from: "seed", kind: "rsassa-2048" },
      certificates: [{ from: "file", path: ca.leafFile }],
    })
    expect(await refusal(foreign)).toMatchObject({ code: "INPUT", field: "certificates[0].publicKey" })
    writeFileSync(join(machine.directory, "junk"), "junk")
    const junk = open({ certificates: [{ from: "file", path: join(machine.directory, "junk") }] })
    expect(await refusal(junk)).toMatchObject({ code: "MALFORMED" })
  })

  it.runIf(haveVectors)("brings the event logs that were asked for, whole or not at all", async () => {
    const directory = join(machine.directory, "security")
    const log = readVector("tpm/eventlog/ubuntu-2404-amd-sevsnp.eventlog.bin")
    mkdirSync(join(directory, "tpm0"), { recursive: true })
    mkdirSync(join(directory, "ima"))
    writeFileSync(join(directory, "tpm0", "binary_bios_measurements"), log)
    writeFileSync(join(directory, "ima", "binary_runtime_measurements"), new Uint8Array(1_000).fill(1))
    const withLogs = (options: TpmOptions) => open({ securityDirectory: directory, ...options })
    const fits = await withLogs({})
    const piece = await pieceOf(fits)
    expect(piece.boot_log).toEqual(log)
    expect(piece.ima_log).toBeUndefined()
    expect(parseEventLog(piece.boot_log ?? log).events.length).toBeGreaterThan(10)
    const [small] = await fits.attest(reportData, 3_000)
    expect(small).not.toHaveProperty("boot_log")
    await fits.close()
    const both = await withLogs({ logs: { boot: "always", ima: "always" } })
    expect(await pieceOf(both)).toMatchObject({ boot_log: log, ima_log: new Uint8Array(1_000).fill(1) })
    expect(await refusal(both.attest(reportData, 3_000))).toMatchObject({ code: "TOO_LARGE" })
    // IMA's list has grown.
    writeFileSync(join(directory, "ima", "binary_runtime_measurements"), new Uint8Array(70_000))
    const error = await refusal(both.attest(reportData))
    expect(error).toMatchObject({
      code: "TOO_LARGE",
      field: join(directory, "ima", "binary_runtime_measurements"),
    })
    expect(error.message).toContain("VOUCHSAFE_EVENT_LOGS")
    await both.close()
    const none = await withLogs({ logs: { boot: "never", ima: "never" } })
    expect(await pieceOf(none)).not.toHaveProperty("boot_log")
    expect(await refusal(none.attest(reportData, 500))).toMatchObject({ code: "TOO_LARGE", field: "quote" })
  })

  it("goes on with the same key when the TPM was restarted", async () => {
    const provider = await open()
    const before = verified(await pieceOf(provider)).ak.digest
    await machine.restart()
    expect(verified(await pieceOf(provider)).ak.digest).toBe(before)
  })

  it("makes its key anew when the TPM has forgotten it", async () => {
    const provider = await open()
    const before = verified(await pieceOf(provider)).ak.digest
    machine.signal("SIGKILL")
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "DEVICE_IO" })
    await machine.restart()
    expect(verified(await pieceOf(provider)).ak.digest).toBe(before)
  })

  it("says that the TPM doesn't answer, and goes on when it does again", async () => {
    const provider = await open({ timeoutMs: 400 })
    await pieceOf(provider)
    machine.signal("SIGSTOP")
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "DEVICE_TIMEOUT" })
    expect((await refusal(provider.attest(reportData))).code).toMatch(/TIMEOUT|IO|WEDGED/)
    machine.signal("SIGCONT")
    await sleep(100)
    for (let tries = 0; ; tries++) {
      try {
        verified(await pieceOf(provider))
        break
      } catch (error) {
        if (tries === 20 || !(error instanceof TpmError)) throw error
        await sleep(100)
      }
    }
  })

  it.runIf(haveLine)("asks a character device that doesn't come back nothing more", async () => {
    const path = join(machine.directory, "tpmrm0")
    const line = spawn("socat", [`PTY,link=${path},raw,echo=0`, `UNIX-CONNECT:${machine.socket}`], {
      stdio: "ignore",
    })
    try {
      for (let tries = 0; !existsSync(path) && tries < 400; tries++) await sleep(25)
      const provider = await tpm({ device: path, timeoutMs: 300, securityDirectory })
      expect(provider.emulated).toBe(false)
      verified(await pieceOf(provider))
      machine.signal("SIGSTOP")
      expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "DEVICE_TIMEOUT" })
      for (let tries = 0; tries < 3; tries++)
        expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "WEDGED", field: path })
    } finally {
      line.kill()
    }
  })

  it("takes a quote within the time that the queue gives, without holding up this process", async () => {
    const provider = await open()
    const queue = new DeviceQueue(provider, { everyMs: 0 })
    const times: number[] = []
    let turns = 0
    const turn = setInterval(() => turns++, 1)
    for (let i = 0; i < 20; i++) {
      const begun = performance.now()
      await queue.attest(reportData)
      times.push(performance.now() - begun)
    }
    clearInterval(turn)
    times.sort((a, b) => a - b)
    console.info(
      `quote by swtpm over 24 registers: median ${times[10]?.toFixed(1)} ms, slowest ${times[19]?.toFixed(1)} ms`,
    )
    expect(turns).toBeGreaterThan(10)
  })

  it("stands beside an SNP report over the same report data", async () => {
    const chip = makeChip(makeRoot())
    const guest = launchGuest(chip, { measurement })
    const snp: AttestationProvider = {
      platform: "sev-snp",
      emulated: true,
      about: "a test's",
      attest: async (data) =>
        snpEvidence({ report: guest.report(data), certificates: chip.certificates }).pieces,
      close: async () => undefined,
    }
    const both = combined([snp, await open()])
    expect(both.platform).toBe("sev-snp+tpm")
    const pieces = await both.attest(reportData)
    expect(pieces.map(({ kind }) => kind)).toEqual(["snp", "tpm"])
    expect(verified(await pieceOf(both)).nonce).toEqual(tpmExtraData(reportData))
  })

  it("behind Azure's paravisor brings the report that names its key", async () => {
    const root = makeRoot()
    const chip = makeChip(root)
    await machine.prepare(async (device, { persist, writeNv }) => {
      const ak = await device.createAk("rsassa-2048")
      const jwk = ak.public.key.object.export({ format: "jwk" })
      const runtime = Buffer.from(
        JSON.stringify({
          keys: [{ kid: "HCLAkPub", key_ops: ["sign"], ...jwk }],
          "vm-configuration": { "secure-boot": true, "tpm-enabled": true },
          "user-data": "00".repeat(64),
        }),
      )
      await writeNv(
        0x0140_0001,
        hclReport(launchGuest(chip, { measurement }).report(paravisorData(runtime)), runtime),
      )
      await persist(ak.handle, 0x8100_0003)
      await device.flush(ak.handle)
    })
    const provider = await azureVtpm({ device: machine.socket, securityDirectory })
    providers.push(provider)
    expect(provider.platform).toBe("sev-snp+tpm")
    const pieces = await provider.attest(reportData)
    const [snp, quote] = pieces
    if (snp?.kind !== "snp" || quote?.kind !== "tpm") throw new Error("other pieces")
    const now = new Date("2026-07-01T00:00:00Z")
    const evidence = { pieces: [{ ...snp, certificates: [...chip.certificates] }, quote] }
    expect(verifyPieces(evidence, { roots: [root.hardwareRoot], now })).toMatchObject({
      platform: "sev-snp+tpm",
      tpm: { kind: "tpm", binding: { kind: "azure-hcl", hardware: "snp" } },
    })
    expect(verified(quote).nonce).toEqual(tpmExtraData(reportData))
  })
})

describe.runIf(haveSoftwareTpm)("attester --check", () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "vouchsafe-check-"))
    writeFileSync(join(directory, "seed"), newUser().seed, { mode: 0o600 })
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  const check = (env: Record<string, string>) =>
    spawnSync(process.execPath, [MAIN, "--check"], {
      encoding: "utf8",
      timeout: 60_000,
      env: {
        PATH: process.env.PATH,
        VOUCHSAFE_NATS_URL: "nats://127.0.0.1:4222",
        VOUCHSAFE_NATS_SEED: join(directory, "seed"),
        VOUCHSAFE_INSTANCE: "n1",
        VOUCHSAFE_RUN_DIR: directory,
        VOUCHSAFE_ANCHORS: join(directory, "anchors.json"),
        VOUCHSAFE_ROLE: "node",
        ...env,
      },
    })

  it("tries one report and says what it found", async () => {
    const machine = await startSoftwareTpm()
    try {
      const { status, stdout, stderr } = check({
        VOUCHSAFE_ATTESTATION: "tpm",
        VOUCHSAFE_TPM_DEVICE: machine.socket,
      })
      expect(stderr).toBe("")
      expect(status).toBe(0)
      expect(stdout).toContain("platform: tpm (EMULATED: proves nothing)")
      expect(stdout).toMatch(/attestation key 000b[0-9a-f]{64}/)
      expect(stdout).toMatch(/one report in [\d.]+ ms: \d+ bytes/)
      expect(stdout).toMatch(/tpm: \d+ bytes, quote over 24 registers, 0 certificates of the key/)
    } finally {
      await machine.stop()
    }
  })

  it("fails where there is nothing, and doesn't make up for it", () => {
    const { status, stderr, stdout } = check({
      VOUCHSAFE_TSM_DIRECTORY: "/proc/nonexistent/report",
      VOUCHSAFE_NSM_DEVICE: "/proc/nonexistent/nsm",
      VOUCHSAFE_TPM_DEVICE: "/proc/nonexistent/tpmrm0",
    })
    expect(status).toBe(1)
    expect(stderr).toContain(
      "/proc/nonexistent/report ENOENT; /proc/nonexistent/nsm ENOENT; /proc/nonexistent/tpmrm0 ENOENT",
    )
    expect(stdout).not.toContain("platform")
  })

  it.each([
    ["VOUCHSAFE_ATTESTATION", "emulated-snp"],
    ["VOUCHSAFE_TPM_PCRS", "sha1:0"],
    ["VOUCHSAFE_TPM_AK", "0x80000000"],
    ["VOUCHSAFE_SNP_VMPL", "4"],
    ["VOUCHSAFE_EVENT_LOGS", "some"],
    ["VOUCHSAFE_ATTESTATION_TIMEOUT", "0"],
  ])("refuses %s=%s by its name", (name, value) => {
    const { status, stderr } = check({ [name]: value })
    expect(status).toBe(78)
    expect(stderr).toContain(name)
  })
})
