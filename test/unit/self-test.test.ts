import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { createOperatorKey, readOperatorKey } from "../../services/cli/operator-key.ts"
import { auto, type Crypto, native, noble, SecretKey } from "../../services/common/crypto/index.ts"
import * as answers from "../../services/common/crypto/known-answers.ts"
import { rsaPss4096Sha384 } from "../../services/common/crypto/native.ts"
import { SelfTestError, selfTest } from "../../services/common/crypto/self-test.ts"

const greeter = fileURLToPath(new URL("../support/greeter.ts", import.meta.url))

type Call = (...args: never[]) => unknown

type Place = readonly [primitive: string, name: string | undefined]

/** Every function of the port: the primitive's name, and its own where a primitive has several. */
const functions = Object.entries(auto).flatMap(([primitive, of]: [string, unknown]): Place[] => {
  if (typeof of === "function") return [[primitive, undefined]]
  return typeof of === "object" && of !== null ? Object.keys(of).map((name) => [primitive, name]) : []
})

const flip = (bytes: Uint8Array): Uint8Array =>
  Uint8Array.from(bytes, (byte, i) => (i === 5 ? byte ^ 4 : byte))

/** What a defect makes of an answer. */
const spoilt = (answer: unknown): unknown => {
  if (typeof answer === "boolean") return !answer
  if (answer instanceof Uint8Array) return flip(answer)
  if (answer instanceof SecretKey)
    return new SecretKey(
      answer.algorithm,
      Uint8Array.from(answer.reveal(answer.algorithm)),
      flip(answer.publicKey),
    )
  const { sharedSecret, ciphertext } = answer as { sharedSecret: Uint8Array; ciphertext: Uint8Array }
  return { sharedSecret: flip(sharedSecret), ciphertext }
}

const broken = (primitive: string, name: string | undefined, as: (call: Call) => Call): Crypto => {
  const whole = { ...auto } as Record<string, unknown>
  const of = whole[primitive]
  whole[primitive] =
    name === undefined
      ? as(of as Call)
      : { ...(of as object), [name]: as((of as Record<string, Call>)[name] as Call) }
  return whole as unknown as Crypto
}

const failure = (crypto: Crypto, rsa = rsaPss4096Sha384): string => {
  try {
    selfTest(crypto, rsa)
    return "passed"
  } catch (error) {
    return error instanceof SelfTestError ? error.primitive : String(error)
  }
}

describe("the self-test", () => {
  it.each([auto, native, noble])("holds for $name", (crypto) => {
    expect(failure(crypto)).toBe("passed")
  })

  it("knows every function of the port", () => {
    expect(functions.length).toBe(29)
  })

  // What is random can't be compared; it has a test of its own.
  const definite = functions.filter(([primitive]) => primitive !== "randomBytes")
  it.each(definite)(
    "finds that %s %s answers wrongly, throws, or holds everything true",
    (primitive, name) => {
      const wrong =
        (call: Call): Call =>
        (...args) =>
          spoilt(call(...args))
      expect(failure(broken(primitive, name, wrong))).toBe(primitive)
      const throwing = (): Call => () => {
        throw new Error("no such algorithm")
      }
      expect(failure(broken(primitive, name, throwing))).toBe(primitive)
      const lenient = primitive === "equalConstantTime" || name === "verify"
      if (lenient) expect(failure(broken(primitive, name, () => () => true))).toBe(primitive)
    },
  )

  it.each([
    ["ed25519", answers.ed25519],
    ["ecdsaP384", answers.p384],
    ["ecdsaP256", answers.p256],
  ] as const)("finds that %s forgets the message, or the signature", (primitive, vector) => {
    const { verify } = auto[primitive]
    const oneMessage = (): Call => (signature: Uint8Array, _message: Uint8Array, key: Uint8Array) =>
      verify(signature, vector.message, key)
    const oneSignature = (): Call => (_signature: Uint8Array, message: Uint8Array, key: Uint8Array) =>
      verify(vector.signature, message, key)
    expect(failure(broken(primitive, "verify", oneMessage))).toBe(primitive)
    expect(failure(broken(primitive, "verify", oneSignature))).toBe(primitive)
  })

  it("finds an implementation that opens what was tampered with", () => {
    const { open } = auto.chacha20poly1305
    const { sealed, aad } = answers.aead
    type Open = (key: Uint8Array, nonce: Uint8Array, bytes: Uint8Array, data: Uint8Array) => Uint8Array
    const opensAny: Open = (key, nonce, _, data) => open(key, nonce, sealed, data)
    const forgetsData: Open = (key, nonce, bytes) => open(key, nonce, bytes, aad)
    for (const wrong of [opensAny, forgetsData])
      expect(failure(broken("chacha20poly1305", "open", () => wrong))).toBe("chacha20poly1305")
  })

  it("finds X25519 that takes a point of small order", () => {
    const { sharedSecret } = auto.x25519
    const takesAny = (own: SecretKey, peer: Uint8Array): Uint8Array =>
      peer.every((byte) => byte === 0) ? new Uint8Array(32) : sharedSecret(own, peer)
    expect(failure(broken("x25519", "sharedSecret", () => takesAny))).toBe("x25519")
  })

  it("finds a random generator that stands still, and one that gives nothing", () => {
    for (const fill of [0, 7])
      expect(failure({ ...auto, randomBytes: (length) => new Uint8Array(length).fill(fill) })).toBe(
        "randomBytes",
      )
  })

  it("finds RSA that answers wrongly", () => {
    for (const answer of [true, false])
      expect(failure(auto, { ...rsaPss4096Sha384, verify: () => answer })).toBe("rsaPss4096Sha384")
  })

  const vectors = Object.entries(answers).flatMap(([name, vector]) =>
    Object.entries(vector as Record<string, Uint8Array>).map(([field, bytes]) => ({ name, field, bytes })),
  )
  it.each(vectors)("depends on each known answer: $name $field", ({ bytes }) => {
    const at = bytes.length >> 1
    const right = bytes[at] ?? 0
    bytes[at] = right ^ 1
    try {
      expect(failure(auto)).not.toBe("passed")
    } finally {
      bytes[at] = right
    }
  })

  it("comes before an operator's key is made or used", () => {
    const directory = mkdtempSync(join(tmpdir(), "vouchsafe-self-test-"))
    const [made, never] = [join(directory, "made"), join(directory, "never")]
    try {
      const wrong = { ...auto, sha512: (data: Uint8Array) => flip(auto.sha512(data)) }
      expect(() => createOperatorKey(wrong, never)).toThrow(SelfTestError)
      expect(existsSync(never)).toBe(false)
      createOperatorKey(auto, made)
      expect(() => readOperatorKey(wrong, made)).toThrow(SelfTestError)
      expect(readOperatorKey(auto, made).publicKey.length).toBe(32)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it("ends a service before it reads a setting, with 70 and what to do, when OpenSSL computes wrongly", () => {
    const script = `import crypto from "node:crypto"
      import { syncBuiltinESMExports } from "node:module"
      const { hash } = crypto
      crypto.hash = (name, ...more) => hash(name === "sha384" ? "sha3-384" : name, ...more)
      syncBuiltinESMExports()`
    const defect = `data:text/javascript,${encodeURIComponent(script)}`
    const run = (...flags: string[]) =>
      spawnSync(process.execPath, [...flags, greeter], {
        env: { PATH: process.env.PATH },
        encoding: "utf8",
        timeout: 60_000,
      })
    const { status, stderr, stdout } = run("--import", defect)
    expect(status).toBe(70)
    expect(stderr).toMatch(/^\S+: self-test: sha384 \(auto\) .* nothing was started/)
    expect(stderr).toContain("take this machine out of use")
    expect(stdout).toBe("")
    expect(run().status).toBe(78)
  })
})
