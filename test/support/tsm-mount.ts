/**
 * The imitation of configfs-tsm as real files: a FUSE file system (linux/fuse.h, protocol 7.31) served by this process, so
 * that the provider's own system calls meet attributes that appear with mkdir and errnos that a kernel hands out. Needs
 * root and /dev/fuse.
 */
import {
  closeSync,
  existsSync,
  constants as flags,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs"
import { constants, tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import koffi from "koffi"
import { Fault, INBLOB_MOST, type TsmKernel } from "./tsm-kernel.ts"

export const haveFuse = existsSync("/dev/fuse") && process.getuid?.() === 0

const op = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  mkdir: 9,
  rmdir: 11,
  open: 14,
  read: 15,
  write: 16,
  release: 18,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
} as const

const inHeader = 40
const outHeader = 16
const directIo = 1
const detach = 2
const rootNode = 1n

interface Node {
  readonly id: bigint
  readonly entry: string
  /** None: the entry's directory. */
  readonly attribute?: string
}

interface OpenFile {
  readonly node: Node
  /** What a read gives, once it was asked for. */
  content?: Uint8Array
  /** What was written and takes effect at the close. */
  written?: Uint8Array
}

export interface TsmMount {
  /** What stands for /sys/kernel/config/tsm/report. */
  readonly root: string
  readonly stop: () => Promise<void>
}

class Server {
  readonly #kernel: TsmKernel
  readonly #fd: number
  readonly #nodes = new Map<bigint, Node>()
  readonly #files = new Map<bigint, OpenFile>()
  #last = rootNode

  constructor(kernel: TsmKernel, fd: number) {
    this.#kernel = kernel
    this.#fd = fd
  }

  /**
   * Until it is unmounted: the device then gives ENODEV. It is polled, for a read that waits would hold one of the few
   * threads that the file calls under test need.
   */
  async serve(): Promise<void> {
    const buffer = Buffer.alloc(1_048_576 + 4_096)
    for (;;) {
      let length: number
      try {
        length = readSync(this.#fd, buffer, 0, buffer.length, null)
      } catch (error) {
        const { code } = error as { code?: string }
        if (code !== "ENOENT" && code !== "EINTR" && code !== "EAGAIN") return
        await sleep(1)
        continue
      }
      void this.#answer(Buffer.from(buffer.subarray(0, length)))
    }
  }

  async #answer(request: Buffer): Promise<void> {
    const opcode = request.readUInt32LE(4)
    const unique = request.readBigUInt64LE(8)
    if (opcode === op.forget || opcode === op.batchForget || opcode === op.interrupt) return
    let body: Buffer = Buffer.alloc(0)
    let errno = 0
    try {
      body = await this.#act(opcode, request.readBigUInt64LE(16), request.subarray(inHeader))
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      errno = constants.errno[error.code as keyof typeof constants.errno]
    }
    const reply = Buffer.alloc(outHeader + body.length)
    reply.writeUInt32LE(reply.length, 0)
    reply.writeInt32LE(-errno, 4)
    reply.writeBigUInt64LE(unique, 8)
    body.copy(reply, outHeader)
    try {
      writeSync(this.#fd, reply)
    } catch {
      // Unmounted, or the caller is gone.
    }
  }

  #node(id: bigint): Node {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new Fault("ENOENT")
    return node
  }

  #file(id: bigint): OpenFile {
    const file = this.#files.get(id)
    if (file === undefined) throw new Fault("EBADF")
    return file
  }

  #newNode(entry: string, attribute?: string): Node {
    const node = { id: ++this.#last, entry, ...(attribute !== undefined && { attribute }) }
    this.#nodes.set(node.id, node)
    return node
  }

  async #act(opcode: number, id: bigint, args: Buffer): Promise<Buffer> {
    switch (opcode) {
      case op.init:
        return initReply()
      case op.lookup:
        return this.#lookup(id, nameOf(args))
      case op.getattr:
        return attributesReply(this.#attributes(id === rootNode ? undefined : this.#node(id)))
      case op.setattr:
        return attributesReply(this.#attributes(this.#node(id)))
      case op.mkdir: {
        if (id !== rootNode) throw new Fault("EPERM")
        const name = nameOf(args.subarray(8))
        this.#kernel.mkdir(name)
        return this.#entryReply(this.#newNode(name))
      }
      case op.rmdir:
        this.#kernel.rmdir(nameOf(args))
        return Buffer.alloc(0)
      case op.open:
        return this.#open(this.#node(id), args.readUInt32LE(0))
      case op.opendir:
        return openReply(0n)
      case op.readdir:
        return this.#list(args.readBigUInt64LE(8))
      case op.read:
        return this.#read(this.#file(args.readBigUInt64LE(0)), args)
      case op.write:
        return this.#write(this.#file(args.readBigUInt64LE(0)), args)
      case op.flush:
        this.#flush(this.#file(args.readBigUInt64LE(0)))
        return Buffer.alloc(0)
      case op.release:
        this.#files.delete(args.readBigUInt64LE(0))
        return Buffer.alloc(0)
      case op.releasedir:
      case op.destroy:
        return Buffer.alloc(0)
      default:
        throw new Fault("ENOSYS")
    }
  }

  #lookup(parent: bigint, name: string): Buffer {
    if (parent === rootNode) {
      if (!this.#kernel.entries.has(name)) throw new Fault("ENOENT")
      return this.#entryReply(this.#newNode(name))
    }
    const { entry, attribute } = this.#node(parent)
    const isThere = attribute === undefined && this.#kernel.entries.has(entry)
    if (!isThere || !this.#kernel.attributes().includes(name)) throw new Fault("ENOENT")
    return this.#entryReply(this.#newNode(entry, name))
  }

  #entryReply(node: Node): Buffer {
    const reply = Buffer.alloc(128)
    reply.writeBigUInt64LE(node.id, 0)
    this.#attributes(node).copy(reply, 40)
    return reply
  }

  /** struct fuse_attr. No sizes and no caching: configfs doesn't know the size of a blob either. */
  #attributes(node: Node | undefined): Buffer {
    const attributes = Buffer.alloc(88)
    const { attribute, entry } = node ?? {}
    const isDirectory = attribute === undefined
    const madeAt = entry === undefined ? 0 : (this.#kernel.entries.get(entry)?.madeAt ?? 0)
    attributes.writeBigUInt64LE(node?.id ?? rootNode, 0)
    attributes.writeBigUInt64LE(BigInt(Math.floor(madeAt / 1_000)), 40)
    const mode = isDirectory ? 0o040755 : this.#kernel.isWritable(attribute) ? 0o100200 : 0o100444
    attributes.writeUInt32LE(mode, 60)
    attributes.writeUInt32LE(isDirectory ? 2 : 1, 64)
    attributes.writeUInt32LE(4_096, 80)
    return attributes
  }

  #open(node: Node, flags: number): Buffer {
    if (node.attribute === undefined) throw new Fault("EISDIR")
    const isForWriting = (flags & 3) !== 0
    // Without a way to do it, root may not either.
    if (isForWriting !== this.#kernel.isWritable(node.attribute)) throw new Fault("EACCES")
    const handle = ++this.#last
    this.#files.set(handle, { node })
    return openReply(handle)
  }

  async #read(file: OpenFile, args: Buffer): Promise<Buffer> {
    const { entry, attribute = "" } = file.node
    file.content ??= this.#kernel.isBinary(attribute)
      ? await this.#kernel.read(entry, attribute)
      : this.#kernel.show(entry, attribute)
    const offset = Number(args.readBigUInt64LE(8))
    return Buffer.from(file.content.subarray(offset, offset + args.readUInt32LE(16)))
  }

  #write(file: OpenFile, args: Buffer): Buffer {
    const { entry, attribute = "" } = file.node
    const offset = Number(args.readBigUInt64LE(8))
    const size = args.readUInt32LE(16)
    const bytes = args.subarray(40, 40 + size)
    if (this.#kernel.isBinary(attribute)) {
      if (offset + size > INBLOB_MOST) throw new Fault("EFBIG")
      const grown = new Uint8Array(Math.max(offset + size, file.written?.length ?? 0))
      grown.set(file.written ?? [])
      grown.set(bytes, offset)
      file.written = grown
    } else this.#kernel.store(entry, attribute, bytes)
    const reply = Buffer.alloc(8)
    reply.writeUInt32LE(size, 0)
    return reply
  }

  /** close(2) waits for this one; a release comes when it likes. */
  #flush(file: OpenFile): void {
    const { written, node } = file
    if (written === undefined) return
    delete file.written
    this.#kernel.commit(node.entry, node.attribute ?? "", written)
  }

  #list(from: bigint): Buffer {
    const names = [...this.#kernel.entries.keys()].slice(Number(from))
    return Buffer.concat(
      names.map((name, i) => {
        const bytes = Buffer.from(name)
        const entry = Buffer.alloc(24 + ((bytes.length + 7) & ~7))
        entry.writeBigUInt64LE(1n, 0)
        entry.writeBigUInt64LE(from + BigInt(i) + 1n, 8)
        entry.writeUInt32LE(bytes.length, 16)
        entry.writeUInt32LE(4, 20)
        bytes.copy(entry, 24)
        return entry
      }),
    )
  }
}

const nameOf = (args: Buffer): string => args.subarray(0, args.indexOf(0)).toString("utf8")

const initReply = (): Buffer => {
  const reply = Buffer.alloc(64)
  reply.writeUInt32LE(7, 0)
  reply.writeUInt32LE(31, 4)
  reply.writeUInt32LE(65_536, 20)
  reply.writeUInt32LE(1, 24)
  return reply
}

const attributesReply = (attributes: Buffer): Buffer => Buffer.concat([Buffer.alloc(16), attributes])

const openReply = (handle: bigint): Buffer => {
  const reply = Buffer.alloc(16)
  reply.writeBigUInt64LE(handle, 0)
  reply.writeUInt32LE(directIo, 8)
  return reply
}

export const mountTsm = (kernel: TsmKernel): TsmMount => {
  const libc = koffi.load("libc.so.6")
  const mount = libc.func("int mount(str source, str target, str type, unsigned long flags, str data)")
  const unmount = libc.func("int umount2(str target, int flags)")
  const root = mkdtempSync(join(tmpdir(), "vouchsafe-tsm-"))
  const fd = openSync("/dev/fuse", flags.O_RDWR | flags.O_NONBLOCK)
  const options = `fd=${fd},rootmode=40755,user_id=0,group_id=0`
  if (mount("vouchsafe-tsm", root, "fuse", 0, options) !== 0) {
    closeSync(fd)
    rmSync(root, { recursive: true, force: true })
    throw new Error("FUSE can't be mounted here")
  }
  const served = new Server(kernel, fd).serve()
  return {
    root,
    stop: async () => {
      unmount(root, detach)
      await served
      closeSync(fd)
      rmSync(root, { recursive: true, force: true })
    },
  }
}
