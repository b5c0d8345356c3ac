/**
 * Messages that wait for a handler, shared fairly: senders take turns, and one that sends too much pushes out its own
 * oldest message, never another's.
 */
export class Pending<T> {
  readonly #waitingMax: number
  readonly #perSenderMax: number
  readonly #bySender = new Map<string, T[]>()
  #size = 0

  constructor(waitingMax: number, perSenderMax: number) {
    this.#waitingMax = waitingMax
    this.#perSenderMax = perSenderMax
  }

  get size(): number {
    return this.#size
  }

  /** Adds a message; false when it, or an older one of its sender, was dropped for it. */
  add(sender: string, item: T): boolean {
    const own = this.#bySender.get(sender)
    if (own !== undefined && own.length >= this.#perSenderMax) {
      own.shift()
      own.push(item)
      return false
    }
    if (this.#size >= this.#waitingMax) return false
    if (own === undefined) this.#bySender.set(sender, [item])
    else own.push(item)
    this.#size++
    return true
  }

  /** The oldest message of the sender whose turn it is. */
  take(): T | undefined {
    const [turn] = this.#bySender
    if (turn === undefined) return undefined
    const [sender, own] = turn
    const item = own.shift()
    this.#bySender.delete(sender)
    if (own.length > 0) this.#bySender.set(sender, own)
    this.#size--
    return item
  }
}
