import { Attr, bpf, command } from "../../services/common/kernel/bpf.ts"

const ROOM = 1 << 14
const SKB_SIZE = 192
const SKB_MARK = 8

/** BPF_PROG_TEST_RUN of one program many times, with buffers that are made once. What a run gives is valid until the next. */
export class TestRunner {
  readonly #in = new Uint8Array(ROOM)
  readonly #out = new Uint8Array(ROOM)
  readonly #context = new Uint8Array(SKB_SIZE)
  readonly #view = new DataView(this.#context.buffer)
  readonly #attr: Attr
  mark = 0
  packet: Uint8Array = this.#out

  constructor(programFd: number) {
    this.#attr = new Attr(80)
      .u32(0, programFd)
      .pointer(16, this.#in)
      .pointer(24, this.#out)
      .u32(32, 1)
      .pointer(56, this.#context)
  }

  /** Gives the program's return value; the packet and the mark as it left them are in `packet` and `mark`. */
  run(packet: Uint8Array): number {
    this.#in.set(packet)
    const attr = this.#attr.u32(8, packet.length).u32(12, ROOM).u32(40, 0).u32(44, SKB_SIZE)
    bpf(command.PROG_TEST_RUN, attr, "test run", "many packets")
    this.mark = this.#view.getUint32(SKB_MARK, true)
    this.packet = this.#out.subarray(0, attr.readU32(12))
    return attr.readU32(4)
  }
}
