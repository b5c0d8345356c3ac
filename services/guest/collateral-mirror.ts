/** Asks a mirror for collateral, in the background of services and for operators: never while evidence waits. */
import { limits } from "../../schemas/limits.ts"
import { HttpError, httpGet } from "../common/http/get.ts"
import { type MirrorRequest, type MirrorWants, offeredBy, requestsOf } from "../evidence/collateral/mirror.ts"
import type { Offered } from "../evidence/collateral/snapshot.ts"

export interface MirrorFailure {
  readonly name: string
  readonly code: string
  readonly message: string
}

export interface Fetched {
  /** Unverified. */
  readonly offered: readonly Offered[]
  readonly failures: readonly MirrorFailure[]
}

const timeoutMs = 10_000
/** At once: vendors' services throttle. */
const together = 2

/** Everything that is wanted, whatever of it fails. Nothing that comes is believed; `offered` is for the store to judge. */
export const fetchCollateral = async (wants: MirrorWants, signal?: AbortSignal): Promise<Fetched> => {
  const waiting = [...requestsOf(wants)]
  const offered: Offered[] = []
  const failures: MirrorFailure[] = []
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const result = await fetchOne(next, signal)
      if (Array.isArray(result)) offered.push(...result)
      else failures.push(result as MirrorFailure)
    }
  }
  await Promise.all(Array.from({ length: together }, work))
  return { offered, failures }
}

const fetchOne = async (
  request: MirrorRequest,
  signal: AbortSignal | undefined,
): Promise<readonly Offered[] | MirrorFailure> => {
  const { name, url, issuersIn } = request
  try {
    const { body, headers } = await httpGet(url, {
      timeoutMs,
      bytesMax: limits.evidenceBytes,
      ...(signal && { signal }),
    })
    return offeredBy(
      request,
      body,
      issuersIn === undefined ? undefined : (headers.get(issuersIn) ?? undefined),
    )
  } catch (error) {
    if (error instanceof HttpError) return { name, code: error.code, message: error.message }
    throw error
  }
}

/** A mirror's base address. @throws Error naming what is wrong with it */
export const readMirrorUrl = (text: string): string => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.username !== "" ||
    url.password !== "" ||
    url.search !== "" ||
    url.hash !== ""
  )
    throw new Error("must be http://host[:port][/path] or https://..., without user, query or fragment")
  return text.replace(/\/+$/, "")
}
