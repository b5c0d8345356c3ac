/**
 * What an appraisal asked of the store of collateral, and what it was given: recorded while it goes on, and given again
 * later without any store. So neither the store's rules nor what it learned since can change a verdict.
 */
import type { Consulted } from "../../../schemas/messages/record.ts"
import type { CollateralLookup } from "../appraisal/verify-pieces.ts"
import type { SnpCollateral } from "../snp/crl.ts"
import { SnpError } from "../snp/error.ts"
import type { SnpProduct } from "../snp/product.ts"
import type { TdxCollateral } from "../tdx/collateral.ts"
import { TdxError } from "../tdx/error.ts"
import { toHex } from "../text.ts"
import { RecordError } from "./error.ts"

export interface Recorder {
  /** To be passed where a verification takes collateral. */
  readonly lookup: CollateralLookup
  readonly consulted: () => readonly Consulted[]
}

const item = (name: string, bytes: Uint8Array) => ({ name, bytes })

const snpName = (product: SnpProduct) => `snp ${product}`
const certificatesName = (product: SnpProduct) => `snp-certificates ${product}`
const tdxName = ({ fmspc, ca }: { readonly fmspc: Uint8Array; readonly ca: string }) =>
  `tdx ${toHex(fmspc)} ${ca}`

const tdxItems = ["tcbInfo", "qeIdentity", "rootCrl", "pckCrl", "tcbSigningChain"] as const

/** Passes everything on, and keeps what was said. Asked twice for the same, the first answer stays. */
export const recordLookup = (store: CollateralLookup): Recorder => {
  const heard = new Map<string, Consulted>()
  const hear = <T>(of: string, ask: () => T, itemsOf: (answer: T) => Consulted["items"]): T => {
    try {
      const answer = ask()
      if (!heard.has(of)) heard.set(of, { of, items: itemsOf(answer) })
      return answer
    } catch (error) {
      if ((error instanceof SnpError || error instanceof TdxError) && error.code === "COLLATERAL_STALE") {
        const { field, found, wanted } = error
        heard.set(of, { of, items: [], stale: { field, found, wanted } })
      }
      throw error
    }
  }
  const { snpCertificates } = store
  return {
    consulted: () => [...heard.values()],
    lookup: {
      snp: (product) =>
        hear(
          snpName(product),
          () => store.snp(product),
          ({ crls = [] }) => crls.map((crl) => item("crl", crl)),
        ),
      tdx: (platform) =>
        hear(
          tdxName(platform),
          () => store.tdx(platform),
          (found) =>
            tdxItems.flatMap((name) => {
              const bytes = found[name]
              return bytes === undefined ? [] : [item(name, bytes)]
            }),
        ),
      ...(snpCertificates && {
        snpCertificates: (report, product) =>
          hear(
            certificatesName(product),
            () => snpCertificates(report, product),
            (found = []) => found.map((one) => item("certificate", one)),
          ),
      }),
    },
  }
}

/**
 * The store as it answered then.
 * @throws RecordError COLLATERAL_UNRECORDED from a lookup of something that wasn't asked then
 */
export const replayLookup = (consulted: readonly Consulted[]): CollateralLookup => {
  const answers = new Map(consulted.map((one) => [one.of, one]))
  const asked = (of: string): Consulted => {
    const one = answers.get(of)
    if (one === undefined)
      throw new RecordError("COLLATERAL_UNRECORDED", "consulted", `nothing of "${of}", which is asked for`)
    return one
  }
  const tdx = (platform: Parameters<CollateralLookup["tdx"]>[0]): TdxCollateral => {
    const { items, stale } = asked(tdxName(platform))
    if (stale !== undefined) throw new TdxError("COLLATERAL_STALE", stale.field, stale.found, stale.wanted)
    return Object.fromEntries(
      tdxItems.flatMap((name) => {
        const found = items.find((one) => one.name === name)
        return found === undefined ? [] : [[name, found.bytes]]
      }),
    )
  }
  const snp = (product: SnpProduct): SnpCollateral => {
    const { items, stale } = asked(snpName(product))
    if (stale !== undefined) throw new SnpError("COLLATERAL_STALE", stale.field, stale.found, stale.wanted)
    return { crls: items.map(({ bytes }) => bytes) }
  }
  return {
    snp,
    tdx,
    // A report may be of any product: what wasn't asked for then had been answered before it.
    snpCertificates: (_, product) => {
      const items = answers.get(certificatesName(product))?.items ?? []
      return items.length === 0 ? undefined : items.map(({ bytes }) => bytes)
    },
  }
}
