/** Keeps at most `most` values; the one longest unused goes first. */
export class Recent<T> {
  readonly #values = new Map<string, T>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get(key: string): T | undefined {
    const value = this.#values.get(key)
    if (value === undefined) return undefined
    this.#values.delete(key)
    this.#values.set(key, value)
    return value
  }

  set(key: string, value: T): T {
    this.#values.set(key, value)
    const [oldest] = this.#values.keys()
    if (this.#values.size > this.#most && oldest !== undefined) this.#values.delete(oldest)
    return value
  }

  /** The value known by this key, or else what `make` gives. Nothing is kept when it throws. */
  of(key: string, make: () => T): T {
    return this.get(key) ?? this.set(key, make())
  }
}
