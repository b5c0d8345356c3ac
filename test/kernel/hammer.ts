/** A worker thread: runs one program on many packets, as fast as it can, from the moment that all workers are there. */
import { parentPort, workerData } from "node:worker_threads"
import { testRun } from "../../services/common/kernel/libbpf.ts"

export interface HammerWork {
  readonly programFd: number
  readonly packets: ReadonlyArray<Uint8Array>
  /** Two 32-bit words: how many workers have arrived, and for how many to wait. */
  readonly gate: SharedArrayBuffer
}
export interface HammerResult {
  readonly retvals: ReadonlyArray<number>
  /** Bytes 42 to 58 of each packet that came out: ESP header and IV, if the program sealed it. */
  readonly numbers: ReadonlyArray<string>
}

const { programFd, packets, gate } = workerData as HammerWork
const words = new Int32Array(gate)
Atomics.add(words, 0, 1)
const until = Date.now() + 10_000
while (Atomics.load(words, 0) < Atomics.load(words, 1) && Date.now() < until);
const results = packets.map((packet) => testRun(programFd, packet))
const answer: HammerResult = {
  retvals: results.map((result) => result.retval),
  numbers: results.map((result) => Buffer.from(result.packet.subarray(42, 58)).toString("hex")),
}
parentPort?.postMessage(answer)
