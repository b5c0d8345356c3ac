/** One GET from a server that isn't trusted: bounded in time and size, never led elsewhere. */

export type HttpErrorCode =
  /** Not reached, or gone in the middle. */
  | "HTTP_UNREACHABLE"
  /** No whole answer in time. */
  | "HTTP_TIMEOUT"
  /** Another status than 200; redirects are never followed. */
  | "HTTP_STATUS"
  /** A longer answer than is taken. */
  | "HTTP_TOO_LARGE"

export class HttpError extends Error {
  override readonly name = "HttpError"
  readonly code: HttpErrorCode
  readonly url: string

  constructor(code: HttpErrorCode, url: string, message: string) {
    super(`${url}: ${message}`)
    this.code = code
    this.url = url
  }
}

export interface HttpAnswer {
  readonly body: Uint8Array
  readonly headers: Headers
}

export interface GetOptions {
  /** For the whole answer. */
  readonly timeoutMs: number
  readonly bytesMax: number
  readonly signal?: AbortSignal
}

/** @throws HttpError */
export const httpGet = async (
  url: string,
  { timeoutMs, bytesMax, signal }: GetOptions,
): Promise<HttpAnswer> => {
  const timeout = AbortSignal.timeout(timeoutMs)
  const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal])
  try {
    // Nothing compressed: the bound is on what was sent.
    const headers = { "accept-encoding": "identity", accept: "*/*", "user-agent": "vouchsafe" }
    const answer = await fetch(url, { redirect: "manual", signal: ended, headers })
    if (answer.status !== 200) {
      await answer.body?.cancel()
      throw new HttpError("HTTP_STATUS", url, `answered with status ${answer.status}`)
    }
    return { body: await readBounded(answer, url, bytesMax), headers: answer.headers }
  } catch (error) {
    if (error instanceof HttpError) throw error
    if (timeout.aborted) throw new HttpError("HTTP_TIMEOUT", url, `no whole answer in ${timeoutMs} ms`)
    throw new HttpError("HTTP_UNREACHABLE", url, reasonOf(error))
  }
}

const readBounded = async (answer: Response, url: string, bytesMax: number): Promise<Uint8Array> => {
  const parts: Uint8Array[] = []
  let length = 0
  if (answer.body !== null)
    for await (const part of answer.body) {
      length += part.length
      // Leaving the loop cancels the rest.
      if (length > bytesMax) throw new HttpError("HTTP_TOO_LARGE", url, `more than ${bytesMax} bytes`)
      parts.push(part)
    }
  return Uint8Array.from(Buffer.concat(parts))
}

const reasonOf = (error: unknown): string => {
  const cause = error instanceof Error ? (error.cause ?? error) : error
  if (cause instanceof Error && "code" in cause) return String(cause.code)
  return cause instanceof Error ? cause.message : "can't be reached"
}
