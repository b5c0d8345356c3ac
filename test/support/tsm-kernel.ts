/**
 * The kernel's configfs-tsm as its documentation and behaviour have it, in memory: what a guest without the hardware can
 * be tried against. Two ways in: a port for the provider (`tsmFilesOf`), and real files (`mountTsm` in tsm-mount.ts).
 *
 *  - mkdir below `report` makes an entry, or fails with ENXIO while no provider is registered;
 *  - a provider shows or hides attributes: TDX has neither privilege levels nor an auxblob;
 *  - every write counts in `generation`, and is refused with EBUSY when it would make the count meet itself;
 *  - a binary attribute is written when its file is closed, and the result of that is lost; more than 64 bytes are
 *    refused before;
 *  - `outblob` makes the report when it is read: EINVAL before an inblob was written, else what the hardware says.
 */
import { ProviderError, type TsmFiles } from "../../services/evidence/providers/index.ts"

/** A refusal, as Node would give it for a system call. */
export class Fault extends Error {
  readonly code: string
  constructor(code: string) {
    super(code)
    this.code = code
  }
}

export interface Backend {
  /** `provider`. */
  readonly name: string
  /** The lowest privilege level that may be asked for; none where there are no levels. */
  readonly floor?: number
  readonly hasAuxiliary: boolean
  /** Throws a Fault where the hardware refuses. */
  readonly make: (
    inblob: Uint8Array,
    level: number,
  ) => Promise<{
    readonly outblob: Uint8Array
    readonly auxblob?: Uint8Array
  }>
}

interface Entry {
  inblob: Uint8Array
  level: number
  written: bigint
  read: bigint
  outblob: Uint8Array | undefined
  auxblob: Uint8Array | undefined
  readonly madeAt: number
}

const OUTBLOB_MOST = 32_768
export const INBLOB_MOST = 64
const empty = new Uint8Array(0)
const text = (value: string): Uint8Array => Buffer.from(`${value}\n`)

export class TsmKernel {
  backend: Backend | undefined
  readonly entries = new Map<string, Entry>()
  /** `operation attribute`, in order. */
  readonly calls: string[] = []
  /** Runs once a call is seen, before it acts: another process's turn. */
  onCall: (call: string, entry: string) => void = () => undefined
  readonly #faults = new Map<string, string[]>()

  constructor(backend?: Backend) {
    this.backend = backend
  }

  /** The next calls of this kind (`read outblob`, `mkdir`) fail with these. */
  fail(call: string, ...codes: readonly string[]): void {
    this.#faults.set(call, [...codes])
  }

  #begin(call: string, entry: string): void {
    this.calls.push(call)
    this.onCall(call, entry)
    const code = this.#faults.get(call)?.shift()
    if (code !== undefined) throw new Fault(code)
  }

  #entry(name: string): Entry {
    const entry = this.entries.get(name)
    if (entry === undefined) throw new Fault("ENOENT")
    return entry
  }

  mkdir(name: string): void {
    this.#begin("mkdir", name)
    if (this.backend === undefined) throw new Fault("ENXIO")
    if (this.entries.has(name)) throw new Fault("EEXIST")
    this.entries.set(name, {
      inblob: empty,
      level: 0,
      written: 0n,
      read: 0n,
      outblob: undefined,
      auxblob: undefined,
      madeAt: Date.now(),
    })
  }

  rmdir(name: string): void {
    this.#begin("rmdir", name)
    this.#entry(name)
    this.entries.delete(name)
  }

  attributes(): readonly string[] {
    const levels = this.backend?.floor === undefined ? [] : ["privlevel", "privlevel_floor"]
    return [
      "generation",
      "provider",
      "inblob",
      "outblob",
      ...levels,
      ...(this.backend?.hasAuxiliary ? ["auxblob"] : []),
    ]
  }

  #expectVisible(attribute: string): void {
    if (!this.attributes().includes(attribute)) throw new Fault("ENOENT")
  }

  isWritable(attribute: string): boolean {
    return attribute === "inblob" || attribute === "privlevel"
  }

  isBinary(attribute: string): boolean {
    return attribute.endsWith("blob")
  }

  #advance(entry: Entry): void {
    if (entry.written === BigInt.asUintN(64, entry.read - 1n)) throw new Fault("EBUSY")
    entry.written = BigInt.asUintN(64, entry.written + 1n)
  }

  /** write(2) of a text attribute. */
  store(name: string, attribute: string, bytes: Uint8Array): void {
    this.#begin(`write ${attribute}`, name)
    const entry = this.#entry(name)
    this.#expectVisible(attribute)
    if (attribute !== "privlevel") throw new Fault("EACCES")
    const given = Buffer.from(bytes).toString("latin1")
    if (!/^\d+\n?$/.test(given)) throw new Fault("EINVAL")
    if (this.backend === undefined) throw new Fault("ENXIO")
    const level = Number(given)
    if (level > 3 || level < (this.backend.floor ?? 0)) throw new Fault("EINVAL")
    this.#advance(entry)
    entry.level = level
  }

  /** close(2) of a binary attribute that was written: says nothing of whether it was taken. */
  commit(name: string, attribute: string, bytes: Uint8Array): void {
    try {
      this.#begin(`write ${attribute}`, name)
      const entry = this.#entry(name)
      this.#advance(entry)
      entry.inblob = Uint8Array.from(bytes)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
    }
  }

  /** All of a text attribute. */
  show(name: string, attribute: string): Uint8Array {
    this.#begin(`read ${attribute}`, name)
    const entry = this.#entry(name)
    this.#expectVisible(attribute)
    if (attribute === "generation") return text(`${entry.written}`)
    if (this.backend === undefined) throw new Fault("ENXIO")
    if (attribute === "provider") return text(this.backend.name)
    if (attribute === "privlevel_floor") return text(`${this.backend.floor ?? 0}`)
    throw new Fault("EACCES")
  }

  /** All of a binary attribute. */
  async read(name: string, attribute: string): Promise<Uint8Array> {
    this.#begin(`read ${attribute}`, name)
    const entry = this.#entry(name)
    this.#expectVisible(attribute)
    if (attribute === "inblob") throw new Fault("EACCES")
    if (entry.inblob.length === 0) throw new Fault("EINVAL")
    if (entry.outblob === undefined || entry.read !== entry.written) await this.#make(entry)
    const blob = (attribute === "outblob" ? entry.outblob : entry.auxblob) ?? empty
    if (blob.length > OUTBLOB_MOST) throw new Fault("EFBIG")
    return blob
  }

  async #make(entry: Entry): Promise<void> {
    if (this.backend === undefined) throw new Fault("ENXIO")
    entry.outblob = undefined
    entry.auxblob = undefined
    const made = await this.backend.make(entry.inblob, entry.level)
    entry.outblob = made.outblob
    entry.auxblob = made.auxblob
    entry.read = entry.written
  }
}

/** The same, for a provider that is given its files: no file system, no privileges. */
export const tsmFilesOf = (kernel: TsmKernel, root: string): TsmFiles => {
  const parts = (path: string): readonly [string, string] => {
    if (!path.startsWith(`${root}/`)) throw new Fault("ENOENT")
    const [name = "", attribute = ""] = path.slice(root.length + 1).split("/")
    return [name, attribute]
  }
  return {
    makeDirectory: async (path) => kernel.mkdir(parts(path)[0]),
    removeDirectory: async (path) => kernel.rmdir(parts(path)[0]),
    list: async () => [...kernel.entries].map(([name, { madeAt }]) => ({ name, ageMs: Date.now() - madeAt })),
    write: async (path, bytes) => {
      const [name, attribute] = parts(path)
      if (!kernel.isBinary(attribute)) return kernel.store(name, attribute, bytes)
      if (!kernel.attributes().includes(attribute)) throw new Fault("ENOENT")
      if (bytes.length > INBLOB_MOST) throw new Fault("EFBIG")
      kernel.commit(name, attribute, bytes)
    },
    read: async (path, most) => {
      const [name, attribute] = parts(path)
      const found = kernel.isBinary(attribute)
        ? await kernel.read(name, attribute)
        : kernel.show(name, attribute)
      if (found.length > most)
        throw new ProviderError("LENGTH", path, `more than ${most} bytes`, `at most ${most} bytes`)
      return Uint8Array.from(found)
    },
  }
}
