/** A TPM as an attester uses it: keys, registers, quotes. No key here has a password; hierarchies may. */
import { type Bank, banks, digest } from "../eventlog/bank.ts"
import type { Registers } from "../eventlog/replay.ts"
import { toHex } from "../text.ts"
import {
  type Command,
  execute,
  handles,
  join,
  passwordAuth,
  policyAuth,
  type Response,
  sized,
  u8,
  u16,
  u32,
} from "./command.ts"
import type { CredentialChallenge } from "./credential.ts"
import { TpmError } from "./error.ts"
import { parsePublic, type TpmPublic } from "./public.ts"
import type { PcrValues, QuoteEvidence } from "./quote.ts"
import { parseQuoteAttest, parseSignature, readSelections, readSized } from "./structures.ts"
import { type AkKind, akTemplate, type EkKind, ekTemplate } from "./templates.ts"
import type { TpmTransport } from "./transport.ts"

/** An object in the TPM, until it is flushed. */
export interface TpmObject {
  readonly handle: number
  readonly public: TpmPublic
}

export type Selection = readonly { readonly bank: Bank; readonly pcrs: readonly number[] }[]

export interface DeviceOptions {
  /** Password of the owner or endorsement hierarchy. Default: none. */
  readonly ownerAuth?: Uint8Array
  readonly endorsementAuth?: Uint8Array
}

const empty = new Uint8Array(0)
const nonceBytesMost = 64
/** Registers that may change while they are read: how often it is tried again. */
const readTriesMost = 5
const nvBytesMost = 8_192
const nvPartBytes = 512

export class TpmDevice {
  readonly #transport: TpmTransport
  readonly #ownerAuth: Uint8Array
  readonly #endorsementAuth: Uint8Array

  constructor(transport: TpmTransport, options: DeviceOptions = {}) {
    this.#transport = transport
    this.#ownerAuth = options.ownerAuth ?? empty
    this.#endorsementAuth = options.endorsementAuth ?? empty
  }

  close(): Promise<void> {
    return this.#transport.close()
  }

  #run(command: Command): Promise<Response> {
    return execute(this.#transport, command)
  }

  /** TPM2_Startup(CLEAR), for a TPM that no firmware has started: a software TPM. */
  async startup(): Promise<void> {
    await this.#run({ name: "Startup", parameters: u16(0) })
  }

  /** @param length 1 to 64; a TPM may give fewer at once, and is then asked again */
  async getRandom(length: number): Promise<Uint8Array> {
    if (!Number.isInteger(length) || length < 1 || length > 64)
      throw new TpmError("DEVICE_INPUT", "length", `${length}`, "1 to 64")
    let random: Uint8Array = empty
    for (let tries = 0; random.length < length && tries < 64; tries++) {
      const wanted = length - random.length
      const { parameters } = await this.#run({ name: "GetRandom", parameters: u16(wanted) })
      random = join(random, readSized(parameters, "randomBytes", wanted))
    }
    if (random.length < length)
      throw new TpmError("DEVICE_RESPONSE", "GetRandom", `${random.length} bytes`, `${length} bytes`)
    return random
  }

  /** All of them as of one moment: read again where something was extended in between. */
  async readPcrs(selection: Selection): Promise<PcrValues> {
    for (let tries = 0; tries < readTriesMost; tries++) {
      const values = await this.#readPcrsOnce(selection)
      if (values !== undefined) return values
    }
    throw new TpmError("DEVICE_RESPONSE", "PCR_Read", "registers that keep changing", "a moment of rest")
  }

  async #readPcrsOnce(selection: Selection): Promise<PcrValues | undefined> {
    const values: Partial<Record<Bank, Map<number, Uint8Array>>> = {}
    const counters = new Set<number>()
    for (const { bank, pcrs } of selection) {
      const found = values[bank] ?? new Map<number, Uint8Array>()
      values[bank] = found
      // A response holds at most 8 digests.
      for (let i = 0; i < pcrs.length; i += 8)
        counters.add(await this.#readSome(bank, pcrs.slice(i, i + 8), found))
    }
    return counters.size > 1 ? undefined : values
  }

  /** @returns the TPM's counter of changes to registers */
  async #readSome(bank: Bank, pcrs: readonly number[], into: Map<number, Uint8Array>): Promise<number> {
    const { parameters } = await this.#run({
      name: "PCR_Read",
      parameters: encodeSelection([{ bank, pcrs }]),
    })
    const counter = parameters.u32("pcrUpdateCounter")
    const read = readSelections(parameters, "pcrSelectionOut").find((one) => one.bank === bank)?.pcrs ?? []
    const count = parameters.u32("pcrValues")
    const missing = pcrs.filter((pcr) => !read.includes(pcr))
    if (missing.length > 0 || count !== read.length)
      throw new TpmError(
        "DEVICE_RESPONSE",
        "PCR_Read",
        `${count} values for PCR ${read.join(", ") || "none"}`,
        `PCR ${pcrs.join(", ")} of the ${bank} bank`,
      )
    for (const pcr of read) into.set(pcr, readSized(parameters, "pcrValues", banks[bank].bytes))
    return counter
  }

  /**
   * An attestation key: restricted, and the same one each time for as long as the hierarchy's seed lives, so that it need
   * not be stored.
   * @param hierarchy whose seed it is made of: the endorsement's outlives a change of owner
   */
  createAk(kind: AkKind, hierarchy: "owner" | "endorsement" = "endorsement"): Promise<TpmObject> {
    return this.#createPrimary(hierarchy, akTemplate(kind))
  }

  /**
   * The attestation key of a template that the platform's maker chose, and certified, and left in the TPM.
   * @param template TPMT_PUBLIC
   */
  createAkOf(template: Uint8Array, hierarchy: "owner" | "endorsement" = "endorsement"): Promise<TpmObject> {
    return this.#createPrimary(hierarchy, template)
  }

  /** The endorsement key of the TCG's default template, which the manufacturer's certificate is about. */
  createEk(kind: EkKind): Promise<TpmObject> {
    return this.#createPrimary("endorsement", ekTemplate(kind))
  }

  async #createPrimary(hierarchy: "owner" | "endorsement", template: Uint8Array): Promise<TpmObject> {
    const auth = hierarchy === "owner" ? this.#ownerAuth : this.#endorsementAuth
    const sensitive = sized(sized(), sized())
    const { handle, parameters } = await this.#run({
      name: "CreatePrimary",
      handles: [handles[hierarchy]],
      auths: [passwordAuth(auth)],
      parameters: join(sensitive, sized(template), sized(), u32(0)),
      givesHandle: true,
    })
    return { handle, public: parsePublic(readSized(parameters, "outPublic", 1_024), "outPublic") }
  }

  /** Of any object in the TPM: a persistent one too (0x81xxxxxx). */
  async readPublic(handle: number): Promise<TpmObject> {
    const { parameters } = await this.#run({ name: "ReadPublic", handles: [handle], parameters: empty })
    const found = parsePublic(readSized(parameters, "outPublic", 1_024), "outPublic")
    const name = readSized(parameters, "name", 66)
    if (Buffer.compare(name, found.name) !== 0)
      throw new TpmError("DEVICE_RESPONSE", "ReadPublic", toHex(name), `${toHex(found.name)}, the key's name`)
    return { handle, public: found }
  }

  /**
   * TPM2_Quote with the scheme of the key.
   * @param nonce at most 64 bytes; a TPM without SHA-512 takes no more than 50, one without SHA-384 34
   */
  async quote(
    ak: TpmObject,
    nonce: Uint8Array,
    selection: Selection,
  ): Promise<{ readonly attest: Uint8Array; readonly signature: Uint8Array }> {
    if (nonce.length > nonceBytesMost)
      throw new TpmError("DEVICE_INPUT", "nonce", `${nonce.length} bytes`, `at most ${nonceBytesMost} bytes`)
    const { parameters } = await this.#run({
      name: "Quote",
      handles: [ak.handle],
      auths: [passwordAuth(empty)],
      parameters: join(sized(nonce), u16(0x0010), encodeSelection(selection)),
    })
    const attest = Uint8Array.from(readSized(parameters, "quoted", 1_024))
    return { attest, signature: Uint8Array.from(parameters.rest()) }
  }

  /** A quote, and the register values that it was taken over. */
  async attest(ak: TpmObject, nonce: Uint8Array, selection: Selection): Promise<QuoteEvidence> {
    for (let tries = 0; tries < readTriesMost; tries++) {
      const pcrs = await this.readPcrs(selection)
      const { attest, signature } = await this.quote(ak, nonce, selection)
      if (isOver(attest, signature, pcrs)) return { attest, signature, akPublic: ak.public.raw, pcrs }
    }
    throw new TpmError("DEVICE_RESPONSE", "Quote", "registers that keep changing", "a moment of rest")
  }

  /**
   * The TPM's half of credential activation: opens what a verifier sealed for this EK and this key's name.
   * @throws TpmError DEVICE_REFUSED where it was made for another key or another TPM
   */
  async activateCredential(
    ak: TpmObject,
    ek: TpmObject,
    { credentialBlob, encryptedSecret }: CredentialChallenge,
  ): Promise<Uint8Array> {
    const session = await this.#endorsementSession()
    try {
      const { parameters } = await this.#run({
        name: "ActivateCredential",
        handles: [ak.handle, ek.handle],
        auths: [passwordAuth(empty), policyAuth(session)],
        parameters: join(credentialBlob, encryptedSecret),
      })
      return Uint8Array.from(readSized(parameters, "certInfo", 64))
    } catch (error) {
      // A session that was used up is gone; one of a command that failed isn't.
      await this.flush(session).catch(() => undefined)
      throw error
    }
  }

  /** The default EK's policy: whoever may use the endorsement hierarchy (EK Credential Profile, B.3.2). */
  async #endorsementSession(): Promise<number> {
    const { handle } = await this.#run({
      name: "StartAuthSession",
      handles: [handles.null, handles.null],
      parameters: join(sized(await this.getRandom(16)), sized(), u8(0x01), u16(0x0010), u16(banks.sha256.id)),
      givesHandle: true,
    })
    await this.#run({
      name: "PolicySecret",
      handles: [handles.endorsement, handle],
      auths: [passwordAuth(this.#endorsementAuth)],
      parameters: join(sized(), sized(), sized(), u32(0)),
    })
    return handle
  }

  async flush(handle: number): Promise<void> {
    await this.#run({ name: "FlushContext", parameters: u32(handle) })
  }

  /** The manufacturer's certificate for the default EK, DER; undefined where the TPM has none. */
  readEkCertificate(kind: EkKind): Promise<Uint8Array | undefined> {
    return this.readNv(kind === "rsa-2048" ? 0x01c0_0002 : 0x01c0_000a)
  }

  /**
   * All of an NV index that the owner may read, with the padding that it may have; undefined where there is none.
   * @param index 0x01xxxxxx
   */
  async readNv(index: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#readNv(index)
    } catch (error) {
      if (error instanceof TpmError && error.code === "DEVICE_REFUSED" && error.found.includes("_HANDLE"))
        return undefined
      throw error
    }
  }

  async #readNv(index: number): Promise<Uint8Array> {
    const { parameters } = await this.#run({ name: "NV_ReadPublic", handles: [index], parameters: empty })
    const described = readSized(parameters, "nvPublic", 128)
    const size = (described.at(-2) ?? 0) * 256 + (described.at(-1) ?? 0)
    if (size > nvBytesMost)
      throw new TpmError("DEVICE_RESPONSE", "NV_ReadPublic", `${size} bytes`, `at most ${nvBytesMost}`)
    const content = new Uint8Array(size)
    for (let offset = 0; offset < size; offset += nvPartBytes) {
      const length = Math.min(nvPartBytes, size - offset)
      const part = await this.#run({
        name: "NV_Read",
        handles: [handles.owner, index],
        auths: [passwordAuth(this.#ownerAuth)],
        parameters: join(u16(length), u16(offset)),
      })
      content.set(readSized(part.parameters, "data", length), offset)
    }
    return content
  }
}

/** TPML_PCR_SELECTION, three bytes of bits for each bank: PCR 0 to 23. */
const encodeSelection = (selection: Selection): Uint8Array =>
  join(u32(selection.length), ...selection.map(({ bank, pcrs }) => encodeBank(bank, pcrs)))

const encodeBank = (bank: Bank, pcrs: readonly number[]): Uint8Array => {
  const bits = new Uint8Array(3)
  for (const pcr of pcrs) {
    if (!Number.isInteger(pcr) || pcr < 0 || pcr > 23)
      throw new TpmError("DEVICE_INPUT", "selection", `PCR ${pcr}`, "0 to 23")
    const byte = pcr >> 3
    bits[byte] = (bits[byte] ?? 0) | (1 << (pcr & 7))
  }
  return join(u16(banks[bank].id), u8(bits.length), bits)
}

const isOver = (attest: Uint8Array, signature: Uint8Array, pcrs: PcrValues): boolean => {
  const { selections, pcrDigest } = parseQuoteAttest(attest)
  const { hash } = parseSignature(signature)
  const values = selections.flatMap(({ bank, pcrs: selected }) => {
    const registers: Registers | undefined = bank && pcrs[bank]
    return selected.map((pcr) => registers?.get(pcr) ?? empty)
  })
  return Buffer.compare(digest(hash, Buffer.concat(values)), pcrDigest) === 0
}
