/**
 * Against a TPM that others wrote (swtpm), and with tools that others wrote (tpm2-tools): our commands are understood, our
 * quotes verify there as here, our challenges open, and our replays agree.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { parse } from "yaml"
import {
  type Bank,
  banks,
  type EventLog,
  parseEventLog,
  replay,
  replayDigests,
} from "../../services/evidence/eventlog/index.ts"
import {
  type AkKind,
  type BindingEvidence,
  bindQuote,
  challengeAk,
  connectTpmSocket,
  type EkKind,
  makeCredential,
  openTpmDevice,
  TpmDevice,
  TpmError,
  type TpmIssuer,
  verifyQuote,
} from "../../services/evidence/tpm/index.ts"
import { toolPcrs } from "../support/tool-pcrs.ts"
import { flippedAt, haveVectors, hexOf, vectorsDir } from "../unit/evidence-support.ts"
import { manifest } from "../unit/evidence-tpm-support.ts"

const installed = (program: string): boolean => spawnSync("which", [program]).status === 0

const haveTpm = installed("swtpm")
const haveTools = installed("tpm2_checkquote") && installed("tpm2_eventlog")
const haveLine = installed("socat")
const haveCa = installed("swtpm_setup") && installed("swtpm_localca") && installed("certtool")

if (!haveTpm)
  console.warn("NO TPM TESTED: every test with swtpm skipped, for it isn't installed (apt: swtpm)")
if (!haveTools)
  console.warn(
    "NO CROSS-CHECK: every test with tpm2-tools skipped, for they aren't installed (apt: tpm2-tools)",
  )

interface Running {
  readonly directory: string
  readonly device: TpmDevice
  readonly stop: () => Promise<void>
}

/** A software TPM of its own, on a socket of its own. */
const startTpm = async (state?: string): Promise<Running> => {
  const directory = state ?? mkdtempSync(join(tmpdir(), "vouchsafe-tpm-"))
  const socket = join(directory, "tpm.sock")
  const tpm: ChildProcess = spawn(
    "swtpm",
    [
      "socket",
      "--tpm2",
      ["--tpmstate", `dir=${directory}`],
      ["--server", `type=unixio,path=${socket}`],
      ["--flags", "not-need-init,startup-clear"],
      // It ends with the first connection: so that none outlives its test.
      "--terminate",
    ].flat(),
    { stdio: "ignore" },
  )
  for (let tries = 0; !existsSync(socket) && tries < 200; tries++) await sleep(25)
  const device = new TpmDevice(await connectTpmSocket(socket))
  return {
    directory,
    device,
    stop: async () => {
      await device.close()
      const ended = new Promise((resolve) => tpm.once("exit", resolve))
      if (tpm.exitCode === null) {
        tpm.kill()
        await ended
      }
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const allPcrs = Array.from({ length: 24 }, (_, i) => i)
const selection = [{ bank: "sha256" as const, pcrs: allPcrs }]

const refusal = async (promise: Promise<unknown>): Promise<TpmError> => {
  try {
    await promise
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

describe.runIf(haveTpm)("a software TPM", () => {
  let running: Running | undefined
  const device = (): TpmDevice => {
    if (running === undefined) throw new Error("not started")
    return running.device
  }

  beforeAll(async () => {
    running = await startTpm()
  })
  afterAll(() => running?.stop())

  it("gives random bytes, and refuses to give none", async () => {
    const [one, other] = [await device().getRandom(64), await device().getRandom(64)]
    expect(one).toHaveLength(64)
    expect(hexOf(one)).not.toBe(hexOf(other))
    expect((await refusal(device().getRandom(0))).code).toBe("DEVICE_INPUT")
  })

  it("reads registers of several banks", async () => {
    const pcrs = await device().readPcrs([
      { bank: "sha256", pcrs: allPcrs },
      { bank: "sha384", pcrs: [0, 23] },
    ])
    expect(pcrs.sha256?.size).toBe(24)
    expect(pcrs.sha256?.get(17)).toEqual(new Uint8Array(32).fill(0xff))
    expect(pcrs.sha384?.get(0)).toEqual(new Uint8Array(48))
  })

  it("names its response codes", async () => {
    const error = await refusal(device().flush(0x8000_0007))
    expect(error).toMatchObject({ code: "DEVICE_REFUSED", field: "FlushContext" })
    expect(error.found).toMatch(/^TPM_RC_(VALUE|HANDLE) /)
    const none = await refusal(device().readPublic(0x8100_0001))
    expect(none.found).toMatch(/^TPM_RC_HANDLE of handle 1/)
  })

  it.each(["ecdsa-p256", "rsassa-2048", "rsapss-2048"] satisfies AkKind[])(
    "%s: a quote verifies, and answers one question only",
    async (kind) => {
      const ak = await device().createAk(kind)
      const nonce = await device().getRandom(32)
      const evidence = await device().attest(ak, nonce, selection)
      const quote = verifyQuote(evidence, { nonce, selection })
      if (quote instanceof TpmError) throw quote
      expect(quote.ak.hierarchy).toBe("endorsement")
      expect(quote.clockInfo.clock).toBeGreaterThan(0n)
      expect(quote.pcrs.sha256?.size).toBe(24)
      const stale = verifyQuote(evidence, { nonce: flippedAt(nonce, 0), selection })
      expect(stale).toMatchObject({ code: "NONCE_MISMATCH" })
      for (let i = 0; i < evidence.attest.length; i++) {
        const changed = { ...evidence, attest: flippedAt(evidence.attest, i) }
        expect(verifyQuote(changed, { nonce, selection }), `byte ${i}`).toBeInstanceOf(TpmError)
      }
      for (let i = 0; i < evidence.signature.length; i++) {
        const changed = { ...evidence, signature: flippedAt(evidence.signature, i) }
        expect(verifyQuote(changed, { nonce, selection }), `byte ${i}`).toBeInstanceOf(TpmError)
      }
      const other = await device().createAk(kind, "owner")
      const foreign = { ...evidence, akPublic: other.public.raw }
      expect(verifyQuote(foreign, { nonce, selection })).toMatchObject({ code: "QUOTE_SIGNATURE" })
      expect((await device().readPublic(ak.handle)).public.name).toEqual(ak.public.name)
      await device().flush(other.handle)
      await device().flush(ak.handle)
    },
  )

  it("makes the same key again from the same seed", async () => {
    const one = await device().createAk("ecdsa-p256")
    const again = await device().createAk("ecdsa-p256")
    expect(hexOf(again.public.name)).toBe(hexOf(one.public.name))
    await device().flush(one.handle)
    await device().flush(again.handle)
  })

  it.each(["rsa-2048", "ecc-p256"] satisfies EkKind[])(
    "opens a credential made for its %s EK",
    async (kind) => {
      const ak = await device().createAk("ecdsa-p256")
      const ek = await device().createEk(kind)
      const { challenge, pending } = challengeAk(ek.public, ak.public)
      expect(await device().activateCredential(ak, ek, challenge)).toEqual(pending.secret)
      // For a key of another name, the TPM refuses: also when all that differs is one bit of an attribute.
      const other = Uint8Array.from(ak.public.name)
      other[5] = (other[5] ?? 0) ^ 1
      const wrong = makeCredential(ek.public, other, new Uint8Array(32).fill(7))
      const error = await refusal(device().activateCredential(ak, ek, wrong))
      expect(error.found).toMatch(/^TPM_RC_INTEGRITY/)
      // A few more times: sessions of refused commands don't pile up.
      for (let i = 0; i < 4; i++) await refusal(device().activateCredential(ak, ek, wrong))
      expect(await device().activateCredential(ak, ek, challenge)).toEqual(pending.secret)
      await device().flush(ek.handle)
      await device().flush(ak.handle)
    },
  )

  it("opens no credential made for another TPM", async () => {
    const elsewhere = await startTpm()
    try {
      const ak = await device().createAk("ecdsa-p256")
      const ek = await device().createEk("rsa-2048")
      const foreign = await elsewhere.device.createEk("rsa-2048")
      const { challenge } = challengeAk(foreign.public, ak.public)
      expect((await refusal(device().activateCredential(ak, ek, challenge))).code).toBe("DEVICE_REFUSED")
      await device().flush(ek.handle)
      await device().flush(ak.handle)
    } finally {
      await elsewhere.stop()
    }
  })

  it("has no certificate unless it was made with one", async () => {
    expect(await device().readEkCertificate("rsa-2048")).toBeUndefined()
  })

  /** It knows no PSS for keys in PEM; openssl does. */
  it.runIf(haveTools).each(["ecdsa-p256", "rsassa-2048"] satisfies AkKind[])(
    "tpm2_checkquote believes our quote by an %s key, and no altered one",
    async (kind) => {
      const ak = await device().createAk(kind)
      const nonce = await device().getRandom(32)
      const evidence = await device().attest(ak, nonce, selection)
      await device().flush(ak.handle)
      const path = (name: string) => join(running?.directory ?? "", name)
      writeFileSync(path("ak.pem"), ak.public.key.object.export({ format: "pem", type: "spki" }))
      writeFileSync(path("quote"), evidence.attest)
      writeFileSync(path("altered"), flippedAt(evidence.attest, 60))
      writeFileSync(path("signature"), evidence.signature)
      writeFileSync(path("pcrs"), toolPcrs("sha256", allPcrs, [...(evidence.pcrs.sha256?.values() ?? [])]))
      const check = (qualification: Uint8Array, quote = "quote") =>
        spawnSync(
          "tpm2_checkquote",
          [
            ["-u", path("ak.pem")],
            ["-m", path(quote)],
            ["-s", path("signature")],
            ["-f", path("pcrs")],
            ["-q", hexOf(qualification)],
            ["-g", "sha256"],
          ].flat(),
        )
      const result = check(nonce)
      expect(result.stderr.toString()).not.toContain("ERROR")
      expect(result.status).toBe(0)
      expect(check(flippedAt(nonce, 0)).status).not.toBe(0)
      expect(check(nonce, "altered").status).not.toBe(0)
    },
  )

  it("openssl believes our quote by an rsapss-2048 key, and no altered one", async () => {
    const ak = await device().createAk("rsapss-2048")
    const { attest, signature } = await device().quote(ak, new Uint8Array(8), selection)
    await device().flush(ak.handle)
    const path = (name: string) => join(running?.directory ?? "", name)
    writeFileSync(path("pss.pem"), ak.public.key.object.export({ format: "pem", type: "spki" }))
    writeFileSync(path("pss.signature"), signature.subarray(6))
    const check = (message: Uint8Array) =>
      spawnSync(
        "openssl",
        [
          ["dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss"],
          ["-verify", path("pss.pem"), "-signature", path("pss.signature")],
        ].flat(),
        { input: message },
      ).status
    expect(check(attest)).toBe(0)
    expect(check(flippedAt(attest, 60))).not.toBe(0)
  })
})

/** Two ends of a pseudo-terminal stand for the kernel's character device. */
describe.runIf(haveTpm && haveLine)("a character device", () => {
  it("carries commands and quotes", async () => {
    const directory = mkdtempSync(join(tmpdir(), "vouchsafe-tpm-"))
    const [near, far] = [join(directory, "near"), join(directory, "far")]
    const line = spawn("socat", [`pty,raw,echo=0,link=${near}`, `pty,raw,echo=0,link=${far}`], {
      stdio: "ignore",
    })
    const appeared = async () => {
      for (let tries = 0; !(existsSync(near) && existsSync(far)) && tries < 200; tries++) await sleep(25)
    }
    await appeared()
    const tpm = spawn(
      "swtpm",
      [
        "chardev",
        "--tpm2",
        "--tpmstate",
        `dir=${directory}`,
        "--chardev",
        far,
        "--flags",
        "not-need-init,startup-clear",
      ],
      { stdio: "ignore" },
    )
    try {
      const device = new TpmDevice(await openTpmDevice(near, 20_000))
      const ak = await device.createAk("ecdsa-p256")
      const nonce = await device.getRandom(32)
      const quote = verifyQuote(await device.attest(ak, nonce, selection), { nonce, selection })
      if (quote instanceof TpmError) throw quote
      expect(quote.ak.hierarchy).toBe("endorsement")
      await device.close()
    } finally {
      for (const child of [tpm, line]) {
        const ended = new Promise((resolve) => child.once("exit", resolve))
        if (child.exitCode === null && child.kill()) await ended
      }
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

/** A TPM whose EK has a certificate, as a manufacturer would issue it. */
describe.runIf(haveTpm && haveCa)("a software TPM with a manufacturer", () => {
  it("is bound by activation under the named manufacturer, and under no other", async () => {
    const directory = mkdtempSync(join(tmpdir(), "vouchsafe-tpm-"))
    const ca = mkdtempSync(join(tmpdir(), "vouchsafe-ca-"))
    let running: Running | undefined
    try {
      const issuers = manufacture(directory, ca)
      running = await startTpm(directory)
      const { device } = running
      const leaf = await device.readEkCertificate("rsa-2048")
      if (leaf === undefined) expect.fail("no certificate")
      const ak = await device.createAk("rsassa-2048")
      const ek = await device.createEk("rsa-2048")
      const nonce = await device.getRandom(32)
      const quote = verifyQuote(await device.attest(ak, nonce, selection), { nonce, selection })
      if (quote instanceof TpmError) throw quote
      const { challenge, pending } = challengeAk(ek.public, ak.public)
      const answer = await device.activateCredential(ak, ek, challenge)
      const evidence = {
        kind: "activated-credential",
        pending,
        answer,
        certificates: [leaf, ...issuers.certificates],
        issuers: [issuers.root],
        now: new Date(),
      } satisfies BindingEvidence
      expect(bindQuote(quote, evidence)).toMatchObject({ kind: "activated-credential" })
      const codeOf = (change: Partial<typeof evidence>) => {
        const result = bindQuote(quote, { ...evidence, ...change })
        return result instanceof TpmError ? result.code : "believed"
      }
      expect(codeOf({ answer: flippedAt(answer, 3) })).toBe("BINDING_ACTIVATION")
      expect(codeOf({ issuers: [{ name: "other", keyDigest: "00".repeat(32) }] })).toBe("ISSUER_UNKNOWN")
      expect(codeOf({ pending: { ...pending, ekDigest: "00".repeat(32) } })).toBe("BINDING_KEY_MISMATCH")
      expect(codeOf({ pending: { ...pending, akName: ek.public.name } })).toBe("BINDING_KEY_MISMATCH")
      expect(codeOf({ now: new Date("2000-01-01T00:00:00Z") })).toBe("CERTIFICATE_NOT_YET_VALID")
      for (let i = 0; i < leaf.length; i += 7)
        expect(codeOf({ certificates: [flippedAt(leaf, i), ...issuers.certificates] }), `byte ${i}`).not.toBe(
          "believed",
        )
    } finally {
      await running?.stop()
      rmSync(directory, { recursive: true, force: true })
      rmSync(ca, { recursive: true, force: true })
    }
  })
})

const derOf = (pem: string): Uint8Array =>
  Uint8Array.from(Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ""), "base64"))

/** swtpm's local authority: its root and its issuing certificate are made on first use. */
const manufacture = (state: string, ca: string): { certificates: Uint8Array[]; root: TpmIssuer } => {
  const config = join(ca, "localca.conf")
  const options = join(ca, "localca.options")
  writeFileSync(
    config,
    [
      `statedir = ${ca}`,
      `signingkey = ${ca}/signkey.pem`,
      `issuercert = ${ca}/issuercert.pem`,
      `certserial = ${ca}/certserial`,
      "",
    ].join("\n"),
  )
  writeFileSync(options, "--platform-manufacturer Vouchsafe\n--platform-version 1\n--platform-model test\n")
  const setup = join(ca, "setup.conf")
  writeFileSync(
    setup,
    [
      "create_certs_tool=swtpm_localca",
      `create_certs_tool_config=${config}`,
      `create_certs_tool_options=${options}`,
      "",
    ].join("\n"),
  )
  execFileSync(
    "swtpm_setup",
    ["--tpm2", "--tpmstate", state, "--create-ek-cert", "--config", setup, "--overwrite"],
    { stdio: "pipe", env: { ...process.env, XDG_CONFIG_HOME: ca } },
  )
  const read = (name: string) => derOf(readFileSync(join(ca, name), "utf8"))
  const root = read("swtpm-localca-rootca-cert.pem")
  const keyDigest = execFileSync("sh", [
    "-c",
    `openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum`,
    "sh",
    join(ca, "swtpm-localca-rootca-cert.pem"),
  ])
    .toString()
    .slice(0, 64)
  return { certificates: [read("issuercert.pem"), root], root: { name: "swtpm local CA", keyDigest } }
}

/** PCR 0 of all events alike. */
const replayEverything = (log: EventLog, bank: Bank): Uint8Array => {
  const measurements = log.events.flatMap(({ register, digests }) => {
    const digest = digests.get(bank)
    return register === 0 && digest !== undefined ? [{ register, digest }] : []
  })
  return replayDigests(measurements, bank).get(0) ?? new Uint8Array(banks[bank].bytes)
}

/** A third party's replay of the real logs. */
describe.runIf(haveTools && haveVectors)("tpm2_eventlog", () => {
  const logs = manifest.filter(({ kind }) => kind === "tcg-eventlog")

  it.each(logs)("$file: replays to the same registers", ({ file }) => {
    const path = join(vectorsDir, file)
    const { status, stdout, stderr } = spawnSync("tpm2_eventlog", [path], { maxBuffer: 64 * 1_048_576 })
    const text = stdout.toString("latin1")
    const at = text.lastIndexOf("\npcrs:")
    if (status !== 0 || at < 0) {
      // The tool gives up on some genuine logs (of the old form, for one): that must be its own message.
      expect(stderr.toString()).toMatch(/ERROR/)
      return
    }
    const stated = parse(text.slice(at), { intAsBigInt: true }) as {
      pcrs: Record<string, Record<string, bigint>>
    }
    const log = parseEventLog(Uint8Array.from(readFileSync(path)))
    let compared = 0
    for (const [bank, values] of Object.entries(stated.pcrs)) {
      if (!Object.hasOwn(banks, bank)) continue
      const own = new Map(replay(log, bank as Bank))
      // Up to version 5.4 the tool extends EV_NO_ACTION events, against the specification, and knows no locality.
      const itsPcr0 = hexOf(replayEverything(log, bank as Bank))
      if (values["0"]?.toString(16).padStart(banks[bank as Bank].bytes * 2, "0") === itsPcr0)
        own.set(0, Uint8Array.from(Buffer.from(itsPcr0, "hex")))
      for (const [register, value] of Object.entries(values ?? {})) {
        const digits = value.toString(16).padStart(banks[bank as Bank].bytes * 2, "0")
        expect(hexOf(own.get(Number(register)) ?? new Uint8Array(0)), `${bank} ${register}`).toBe(digits)
        compared++
      }
    }
    expect(compared).toBeGreaterThan(0)
  })
})

describe("a device that isn't there", () => {
  it("is said to be missing", async () => {
    expect(await refusal(openTpmDevice("/nonexistent/tpmrm0"))).toMatchObject({
      code: "DEVICE_IO",
      found: "ENOENT",
    })
    expect(await refusal(connectTpmSocket("/nonexistent/tpm.sock"))).toMatchObject({ code: "DEVICE_IO" })
  })
})
