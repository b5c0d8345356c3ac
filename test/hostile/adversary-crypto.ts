/**
 * Ideal cryptography: signatures that nobody but the key's owner can make, exchanges and seals that give their secret to
 * the two that share it, hardware that signs what it was told. Made of hashes and a table, so that a run repeats from its
 * seed, costs little, and knows of each key whose it is. Every secret starts with a mark, so that it can be found where it
 * must not be. What primitives do with hostile inputs is tried elsewhere; here it is what the protocol does with them.
 */
import { createHash } from "node:crypto"
import { ReleasePayload } from "../../schemas/messages/release.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import { type Crypto, CryptoError, native } from "../../services/common/crypto/index.ts"
import { type KeyAlgorithm, SecretKey } from "../../services/common/crypto/secret-key.ts"
import type { Chance } from "./adversary-virtual.ts"

const MARK = Uint8Array.of(0xd1, 0x5e, 0xa5, 0xed, 0x0f, 0xf5)
const MARK_TEXT = [
  Buffer.from(MARK).toString("hex"),
  Buffer.from(MARK).toString("hex").toUpperCase(),
] as const
/** What of the mark is the same in base64 whatever stands before and after it. */
const MARK_BASE64 = [0, 1, 2].map((before) => {
  const text = Buffer.concat([Buffer.alloc(before), MARK]).toString("base64")
  return { before, text: text.slice(before === 0 ? 0 : before + 1, Math.floor(((before + 6) * 4) / 3)) }
})

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const hash = (...parts: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  const state = createHash("sha256")
  for (const part of parts) state.update(part)
  return Uint8Array.from(state.digest())
}
const hash384 = (...parts: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  const state = createHash("sha384")
  for (const part of parts) state.update(part)
  return Uint8Array.from(state.digest())
}

/** What P-384 hardware signs, in place of r and s. */
export const hardwareSignature = (publicKey: Uint8Array, message: Uint8Array): Uint8Array => {
  const key = publicKey.subarray(publicKey.length - 96)
  return Buffer.concat([hash384("r", key, message), hash384("s", key, message)])
}

/** Whose public keys a secret of a KEM was made for, and which they are. */
interface MadeFor {
  readonly kemOwner: string | undefined
  readonly dhOwner: string | undefined
  readonly dhKey: string
}

/** A payload on its way into a seal, and to whom it is sealed. */
export interface Sealing extends MadeFor {
  readonly by: string
  readonly payload: ReleasePayload
}

/** Which two keys a traffic key was made with. */
export interface Origin {
  readonly ownKey: Uint8Array
  readonly peerKey: Uint8Array
}

/**
 * Follows what one party makes for others' public keys into whatever it derives of it: what seals may have been made long
 * before, and others since.
 */
class Followed {
  readonly #madeFor = new Map<string, Partial<MadeFor>>()

  of(secret: Uint8Array): Partial<MadeFor> | undefined {
    return this.#madeFor.get(hex(secret))
  }

  /** @returns `secret` */
  made(secret: Uint8Array, madeFor: Partial<MadeFor>): Uint8Array {
    this.#madeFor.set(hex(secret), madeFor)
    return secret
  }

  /** @returns `secret`, which is for whom all of these are */
  derived(secret: Uint8Array, ...from: ReadonlyArray<Uint8Array>): Uint8Array {
    const found = from.flatMap((each) => this.of(each) ?? [])
    return found.length === 0 ? secret : this.made(secret, Object.assign({}, ...found))
  }
}

const known = new Map<string, boolean>()

export class Ideal {
  readonly #chance: Chance
  /** Public key in hex to its secret and owner. */
  readonly #keys = new Map<string, { readonly secret: Uint8Array; readonly owner: string }>()
  readonly #secrets = new Map<string, string>()
  /** By owner and shared secret, and by owner and traffic key, in hex. */
  readonly #exchanges = new Map<string, Origin>()
  readonly #origins = new Map<string, Origin>()
  /** @returns what is sealed in its place, where it isn't this */
  onSeal: ((sealing: Sealing) => ReleasePayload | undefined) | undefined
  /** Somebody has found that hardware signed this. */
  onGenuine: ((by: string, message: Uint8Array) => void) | undefined

  constructor(chance: Chance) {
    this.#chance = chance
  }

  ownerOf(publicKey: Uint8Array): string | undefined {
    return this.#keys.get(hex(publicKey))?.owner
  }

  /** @param key hex */
  originOf(owner: string, key: string): Origin | undefined {
    return this.#origins.get(`${owner} ${key}`)
  }

  random(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.#chance.below(256)
    if (length >= 16) bytes.set(MARK)
    return bytes
  }

  /** @returns what of this is a secret in plain, hex or base64: its name */
  leakIn(bytes: Uint8Array): string | undefined {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    for (let at = buffer.indexOf(MARK); at >= 0; at = buffer.indexOf(MARK, at + 1)) {
      const found = this.#secrets.get(buffer.toString("hex", at, at + 16))
      if (found !== undefined) return found
    }
    for (const mark of MARK_TEXT)
      for (let at = buffer.indexOf(mark); at >= 0; at = buffer.indexOf(mark, at + 1)) {
        const found = this.#secrets.get(buffer.toString("latin1", at, at + 32).toLowerCase())
        if (found !== undefined) return `${found}, in hex`
      }
    for (const { before, text } of MARK_BASE64)
      for (let at = buffer.indexOf(text); at >= 0; at = buffer.indexOf(text, at + 1)) {
        const from = before === 0 ? at : at - before - 1
        const plain = Buffer.from(buffer.toString("latin1", Math.max(0, from), from + 28), "base64")
        const found = this.#secrets.get(plain.toString("hex", before, before + 16))
        if (found !== undefined) return `${found}, in base64`
      }
    return undefined
  }

  #secret<T extends Uint8Array>(name: string, bytes: T): T {
    if (bytes.length >= 16) this.#secrets.set(hex(bytes.subarray(0, 16)), name)
    return bytes
  }

  #marked(name: string, bytes: Uint8Array): Uint8Array {
    bytes.set(MARK)
    return this.#secret(name, bytes)
  }

  #key(algorithm: KeyAlgorithm, owner: string, secret: Uint8Array): SecretKey {
    const own = Uint8Array.from(secret)
    this.#secret(`${owner}'s ${algorithm} key`, own)
    const digest = hash(algorithm, own)
    const publicKey = algorithm === "ml-kem-768" ? new Uint8Array(1_184) : digest
    if (algorithm === "ml-kem-768") publicKey.set(digest)
    this.#keys.set(hex(publicKey), { secret: Uint8Array.from(own), owner })
    return new SecretKey(algorithm, own, publicKey)
  }

  /**
   * The port as one party has it.
   * @param spoil may change what this party derives, as a faulty one would
   */
  of(owner: string, spoil: () => boolean = () => false): Crypto {
    const followed = new Followed()
    const seed = (algorithm: KeyAlgorithm) => this.#key(algorithm, owner, this.random(32))
    const exchange = (own: SecretKey, peer: Uint8Array): Uint8Array => {
      if (peer.length !== 32) throw new CryptoError("input", "peerPublicKey", "must have 32 bytes")
      if (peer.every((byte) => byte === 0))
        throw new CryptoError("weak-point", "peerPublicKey", "is of small order")
      const mine = own.reveal("x25519")
      const theirs = this.#keys.get(hex(peer))?.secret ?? peer
      const [a, b] = Buffer.compare(mine, theirs) < 0 ? [mine, theirs] : [theirs, mine]
      return this.#marked(`an exchange of ${owner}`, hash("x25519", a, b))
    }
    const owned = (key: Uint8Array) => this.#keys.get(hex(key))?.owner
    return {
      ...native,
      hkdfSha256: (ikm, salt, info, length) => {
        const okm = native.hkdfSha256(ikm, salt, info, length)
        for (let at = 0; at + 36 <= okm.length; at += 36)
          this.#marked(`a traffic key of ${owner}`, okm.subarray(at, at + 32))
        if (spoil()) for (const [i, byte] of okm.entries()) if (i % 36 > 5) okm[i] = byte ^ 0x55
        const origin = this.#exchanges.get(`${owner} ${hex(ikm.subarray(0, 32))}`)
        if (origin !== undefined)
          for (let at = 0; at + 36 <= okm.length; at += 36)
            this.#origins.set(`${owner} ${hex(okm.subarray(at, at + 32))}`, origin)
        return okm
      },
      // RFC 9180: the input's own label stands before the secret; the key schedule has the secret as its salt.
      hkdfExtractSha256: (ikm, salt) => {
        const prk = this.#marked(`${owner}'s seal`, native.hkdfExtractSha256(ikm, salt))
        return followed.derived(prk, ikm.subarray(-32), salt)
      },
      hkdfExpandSha256: (prk, info, length) => {
        const okm = native.hkdfExpandSha256(prk, info, length)
        return length >= 32 ? followed.derived(this.#marked(`${owner}'s seal`, okm), prk) : okm
      },
      shake256: (data, length) => {
        this.#secret(`${owner}'s seed`, data)
        const out = native.shake256(data, length)
        for (const at of [0, 32, 64])
          if (at + 32 <= length) this.#marked(`${owner}'s seed`, out.subarray(at, at + 32))
        return out
      },
      // X-Wing: the secrets of both KEMs come first.
      sha3_256: (data) => {
        const secret = this.#marked(`${owner}'s seal`, native.sha3_256(data))
        return followed.derived(secret, data.subarray(0, 32), data.subarray(32, 64))
      },
      x25519: {
        generate: () => seed("x25519"),
        fromSecret: (secret) => this.#key("x25519", owner, secret),
        sharedSecret: (own, peer) => {
          const shared = exchange(own, peer)
          const origin = { ownKey: own.publicKey, peerKey: Uint8Array.from(peer) }
          this.#exchanges.set(`${owner} ${hex(shared)}`, origin)
          return followed.made(shared, { dhOwner: owned(peer), dhKey: hex(peer) })
        },
      },
      mlkem768: {
        generate: () => seed("ml-kem-768"),
        fromSeed: (bytes) => this.#key("ml-kem-768", owner, bytes.subarray(0, 64)),
        encapsulate: (publicKey) => {
          if (publicKey.length !== 1_184) throw new CryptoError("input", "publicKey", "must have 1,184 bytes")
          const theirs = this.#keys.get(hex(publicKey))
          if (theirs === undefined)
            throw new CryptoError("input", "publicKey", "is none that anybody has made")
          const ciphertext = new Uint8Array(1_088)
          ciphertext.set(this.random(32))
          const secret = this.#marked("a KEM's secret", hash("kem", theirs.secret, ciphertext))
          return { ciphertext, sharedSecret: followed.made(secret, { kemOwner: theirs.owner }) }
        },
        decapsulate: (ciphertext, own) => {
          if (ciphertext.length !== 1_088)
            throw new CryptoError("input", "ciphertext", "must have 1,088 bytes")
          return this.#marked("a KEM's secret", hash("kem", own.reveal("ml-kem-768"), ciphertext))
        },
      },
      ed25519: {
        generate: () => seed("ed25519"),
        fromSecret: (secret) => this.#key("ed25519", owner, secret),
        sign: (message, key) => {
          const secret = key.reveal("ed25519")
          return Buffer.concat([hash("1", secret, message), hash("2", secret, message)])
        },
        verify: (signature, message, publicKey) => {
          const signer = this.#keys.get(hex(publicKey))?.secret
          if (signer !== undefined)
            return (
              signature.length === 64 &&
              Buffer.compare(
                signature,
                Buffer.concat([hash("1", signer, message), hash("2", signer, message)]),
              ) === 0
            )
          // Operators' keys are real ones.
          const name = hex(hash(signature, publicKey, message))
          const before = known.get(name) ?? native.ed25519.verify(signature, message, publicKey)
          known.set(name, before)
          return before
        },
      },
      ecdsaP384: {
        ...native.ecdsaP384,
        verify: (signature, message, publicKey) => {
          const genuine = Buffer.compare(signature, hardwareSignature(publicKey, message)) === 0
          if (genuine) this.onGenuine?.(owner, message)
          return genuine
        },
      },
      chacha20poly1305: {
        ...native.chacha20poly1305,
        seal: (key, nonce, plaintext, aad) => {
          const said = this.#sealed(owner, plaintext, followed.of(key)) ?? plaintext
          return native.chacha20poly1305.seal(key, nonce, said, aad)
        },
      },
      randomBytes: (length) => this.random(length),
    }
  }

  #sealed(
    by: string,
    plaintext: Uint8Array,
    { kemOwner, dhOwner, dhKey = "" }: Partial<MadeFor> = {},
  ): Uint8Array | undefined {
    const found = decode(ReleasePayload, plaintext, { subject: "payload" })
    if (!found.ok) return undefined
    for (const { secret } of found.value.edges)
      if (secret !== undefined) this.#secret("a release secret", secret)
    const other = this.onSeal?.({ by, payload: found.value, kemOwner, dhOwner, dhKey })
    return other === undefined ? undefined : encode(ReleasePayload, other)
  }
}
