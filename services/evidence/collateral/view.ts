/** What verification may use of the collateral that is known, at one moment; and when that has become too old to be used. */
import type { Crypto } from "../../common/crypto/index.ts"
import { crypto as chosen } from "../../common/crypto/index.ts"
import type { SnpCollateral } from "../snp/crl.ts"
import { SnpError } from "../snp/error.ts"
import type { SnpProduct } from "../snp/product.ts"
import { products } from "../snp/product.ts"
import type { SnpReport } from "../snp/report.ts"
import type { TdxCollateral } from "../tdx/collateral.ts"
import { TdxError } from "../tdx/error.ts"
import { isoOf, toHex } from "../text.ts"
import { amdCertificateKey, intelKeys, vcekKey } from "./admit.ts"
import type { CollateralItem, CollateralItemKind } from "./item.ts"
import type { IntelCa } from "./recognise.ts"
import type { CollateralSnapshot, HeldItem } from "./snapshot.ts"

/** Hard limits beside those that the vendor has signed; beyond either nothing rests on the item: COLLATERAL_STALE. */
export interface StaleRules {
  /** For how long an item counts after a source has last confirmed that there is none newer, in milliseconds. */
  readonly unconfirmedMs: number
  /**
   * For how long an item counts after the time of issue that the vendor has signed, in milliseconds. This one holds
   * against whoever serves old collateral over and over. Intel issues anew each day; AMD's lists are good for a year.
   */
  readonly ageMs?: { readonly [Kind in CollateralItemKind]?: number }
}

const day = 86_400_000
export const plainStaleRules: StaleRules = { unconfirmedMs: 7 * day }

/** Certificates are good until their notAfter, wherever they come from. */
const isCertificate = (kind: CollateralItemKind): boolean => kind.endsWith("-certificate")

/** Why an item may not be used any more; undefined while it may. The vendor's own dates are the verifier's to judge. */
const staleness = (
  { item, confirmed }: HeldItem,
  now: Date,
  rules: StaleRules,
): { readonly found: string; readonly wanted: string } | undefined => {
  if (isCertificate(item.kind)) return undefined
  const since = now.getTime() - confirmed.getTime()
  if (!(since <= rules.unconfirmedMs))
    return {
      found: `last confirmed ${isoOf(confirmed)}`,
      wanted: `within the last ${seconds(rules.unconfirmedMs)}`,
    }
  const ageMs = rules.ageMs?.[item.kind]
  if (ageMs !== undefined && !(now.getTime() - item.issued.getTime() <= ageMs))
    return { found: `issued ${isoOf(item.issued)}`, wanted: `within the last ${seconds(ageMs)}` }
  return undefined
}

const seconds = (ms: number): string => `${Math.floor(ms / 1_000)} s`

/** Lookups of one moment, to be passed where a verifier takes collateral. They throw the vendor's COLLATERAL_STALE. */
export interface CollateralView {
  readonly snp: (product: SnpProduct) => SnpCollateral
  readonly tdx: (platform: { readonly fmspc: Uint8Array; readonly ca: IntelCa }) => TdxCollateral
  /**
   * VCEK, ASK and ARK for a report that came without them, DER; undefined where one isn't there. A masked report has no
   * chip to look for, and a VLEK is nobody's to hand out but its provider's.
   */
  readonly snpCertificates: (
    report: Pick<SnpReport, "chipId" | "reportedTcb" | "signingKey">,
    product: SnpProduct,
  ) => readonly Uint8Array[] | undefined
  /** Certificates of TPM makers, DER, unverified: intermediates that a chain may lack. */
  readonly tpmCertificates: () => readonly Uint8Array[]
}

/** Nitro documents bring all that they need, and AWS publishes no lists: there is nothing to look up for them. */
export const viewOf = (
  { held }: CollateralSnapshot,
  now: Date,
  rules: StaleRules = plainStaleRules,
  crypto: Crypto = chosen,
): CollateralView => {
  const lookup = (key: string, stale: (found: string, wanted: string) => Error): Uint8Array | undefined => {
    const one = held.get(key)
    if (one === undefined) return undefined
    const why = staleness(one, now, rules)
    if (why !== undefined) throw stale(why.found, why.wanted)
    return one.item.bytes
  }
  const snp = (key: string, field: string) =>
    lookup(key, (found, wanted) => new SnpError("COLLATERAL_STALE", field, found, wanted))
  const tdx = (key: string, field: string) =>
    lookup(key, (found, wanted) => new TdxError("COLLATERAL_STALE", `collateral.${field}`, found, wanted))
  return {
    snp: (product) => ({
      crls: [`amd-crl-${product}`, `amd-crl-${product}-vlek`].flatMap(
        (key) => snp(key, "collateral.crls") ?? [],
      ),
    }),
    tdx: ({ fmspc, ca }) => {
      const found = {
        tcbInfo: tdx(`intel-tcb-info-${toHex(fmspc)}`, "tcbInfo"),
        qeIdentity: tdx("intel-qe-identity", "qeIdentity"),
        rootCrl: tdx("intel-root-crl", "rootCrl"),
        pckCrl: tdx(`intel-pck-crl-${ca}`, "pckCrl"),
        tcbSigningChain: tdx(intelKeys.tcbSigning, "tcbSigningChain"),
      }
      return Object.fromEntries(Object.entries(found).filter(([, bytes]) => bytes !== undefined))
    },
    snpCertificates: ({ chipId, reportedTcb, signingKey }, product) => {
      if (signingKey !== "VCEK" || chipId.every((byte) => byte === 0)) return undefined
      const hardwareId = chipId.subarray(0, products[product].hardwareIdBytes)
      const keys = [
        vcekKey(crypto, hardwareId, reportedTcb),
        amdCertificateKey("ask", product),
        amdCertificateKey("ark", product),
      ]
      const found = keys.flatMap((key) => held.get(key)?.item.bytes ?? [])
      return found.length === keys.length ? found : undefined
    },
    tpmCertificates: () =>
      [...held.values()].flatMap(({ item }) => (item.kind === "tpm-certificate" ? [item.bytes] : [])),
  }
}

export type ItemState = "current" | "stale" | "expired"

export interface ItemStatus {
  readonly key: string
  readonly kind: CollateralItemKind
  readonly state: ItemState
  readonly sha256: string
  readonly issued: Date
  readonly expires: Date
  readonly number: bigint
  readonly confirmed: Date
  readonly source: string
}

/** Every item with its state, by key. */
export const statusOf = (
  { held }: CollateralSnapshot,
  now: Date,
  rules: StaleRules = plainStaleRules,
): readonly ItemStatus[] =>
  [...held.values()]
    .map((one): ItemStatus => {
      const { bytes: _, ...item } = one.item
      return { ...item, confirmed: one.confirmed, state: stateOf(one, now, rules) }
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))

const stateOf = (one: HeldItem, now: Date, rules: StaleRules): ItemState => {
  if (!(now.getTime() <= one.item.expires.getTime())) return "expired"
  return staleness(one, now, rules) === undefined ? "current" : "stale"
}

/** What verification of these platforms would miss: keys that aren't there. */
export const missingFor = (
  { held }: CollateralSnapshot,
  wanted: {
    readonly products: readonly SnpProduct[]
    readonly fmspcs: readonly string[]
    readonly cas: readonly IntelCa[]
  },
): readonly string[] => missingKeys(wanted).filter((key) => !held.has(key))

const missingKeys = ({ products: amd, fmspcs, cas }: Parameters<typeof missingFor>[1]): readonly string[] => [
  ...amd.flatMap((product) => [
    ...(["ark", "ask"] as const).map((role) => amdCertificateKey(role, product)),
    `amd-crl-${product}`,
  ]),
  ...(fmspcs.length === 0
    ? []
    : [
        intelKeys.root,
        "intel-qe-identity",
        "intel-root-crl",
        ...cas.flatMap((ca) => [intelKeys[ca], `intel-pck-crl-${ca}`]),
        ...fmspcs.map((fmspc) => `intel-tcb-info-${fmspc}`),
      ]),
]

/** Items in the order of their keys, for files and buckets. */
export const itemsOf = ({ held }: CollateralSnapshot): readonly CollateralItem[] =>
  [...held.values()].map(({ item }) => item).sort((a, b) => (a.key < b.key ? -1 : 1))
