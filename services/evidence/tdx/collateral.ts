/** Intel's collateral for one quote: TCB info, QE identity and two revocation lists, each signed under Intel's root. */
import type { Crypto } from "../../common/crypto/index.ts"
import { native } from "../../common/crypto/native.ts"
import type { CollateralFolder, CollateralUse } from "../collateral/index.ts"
import { isoOf, toHex } from "../text.ts"
import type { TdxCache } from "./cache.ts"
import { checkCertificateDates, type IntelCertificate, outlineOf, verifyIssued } from "./certificate.ts"
import type { IntelChain } from "./chain.ts"
import { type Crl, checkCrlDates, verifyCrl } from "./crl.ts"
import { TdxError } from "./error.ts"
import { splitCertificates } from "./pem.ts"
import { type QeIdentity, readQeIdentity } from "./qe-identity.ts"
import { verifySignedJson } from "./signed-json.ts"
import { type Dated, readTcbInfo, type TcbInfo } from "./tcb-info.ts"
import { intelTcbSigning } from "./tcb-signing.ts"

/** As Intel's provisioning service answers. Each at most 65,536 bytes. */
export interface TdxCollateral {
  /** `{"tcbInfo":{...},"signature":"..."}`. */
  readonly tcbInfo?: Uint8Array
  /** `{"enclaveIdentity":{...},"signature":"..."}`. */
  readonly qeIdentity?: Uint8Array
  /** Of Intel's root; DER. */
  readonly rootCrl?: Uint8Array
  /** Of the Platform or Processor CA that issued the PCK; DER. */
  readonly pckCrl?: Uint8Array
  /** The TCB signing certificate, and what else Intel sends with it; PEM or DER. Left out, Intel's known ones count. */
  readonly tcbSigningChain?: Uint8Array
}

/** The file names under which a folder holds a family's collateral. */
const fileNames: Readonly<Record<keyof TdxCollateral, readonly string[]>> = {
  tcbInfo: ["tcb-info.json"],
  qeIdentity: ["qe-identity.json"],
  rootCrl: ["root-ca-crl.der"],
  pckCrl: ["pck-crl.der"],
  tcbSigningChain: ["tcb-signing-chain.pem", "tcb-signing.der"],
}

export const tdxCollateralOf = (folder: CollateralFolder): TdxCollateral => {
  const found = Object.entries(fileNames).flatMap(([member, names]) => {
    const bytes = names.map((name) => folder.get(name)).find((one) => one !== undefined)
    return bytes === undefined ? [] : [[member, bytes] as const]
  })
  return Object.fromEntries(found)
}

/** The part that neither the time nor a policy changes. */
export interface SignedCollateral {
  readonly signers: readonly IntelCertificate[]
  readonly tcbInfo: TcbInfo
  readonly qeIdentity: QeIdentity
  readonly rootCrl: Crl | undefined
  readonly pckCrl: Crl | undefined
}

export interface VerifiedCollateral {
  readonly tcbInfo: TcbInfo
  readonly qeIdentity: QeIdentity
  readonly revocation: Revocation
  readonly uses: readonly CollateralUse[]
}

/** `unknown`: there was no list to look at, and the caller allowed that. */
export interface Revocation {
  readonly pck: "good" | "unknown"
  readonly issuers: "good" | "unknown"
}

export interface CollateralRules {
  readonly now: Date
  /** Collateral from before this TCB recovery event is refused, though it may not have expired. */
  readonly minimumTcbEvaluationDataNumber?: number
  /** Whether a missing revocation list is refused, which is the default, or reported. */
  readonly missingCrl?: "refuse" | "report"
}

/**
 * @param chain verified: everything here is signed under its root and its CA
 * @throws TdxError
 */
export const verifyCollateral = (
  collateral: TdxCollateral,
  chain: IntelChain,
  rules: CollateralRules,
  crypto: Crypto,
  cache?: TdxCache,
): VerifiedCollateral => {
  const { now } = rules
  const tcbInfo = required(collateral, "tcbInfo")
  const qeIdentity = required(collateral, "qeIdentity")
  if (rules.missingCrl !== "report") {
    required(collateral, "rootCrl")
    required(collateral, "pckCrl")
  }
  const digests = { tcbInfo: digestOf(tcbInfo), qeIdentity: digestOf(qeIdentity) }
  const make = (): SignedCollateral => verifySigned(collateral, tcbInfo, qeIdentity, chain, crypto, cache)
  const key = [
    chain.rootOutline.serial,
    ...chain.certificates.slice(1).map(({ fingerprint }) => fingerprint),
    ...Object.values(digests),
    ...[collateral.rootCrl, collateral.pckCrl, collateral.tcbSigningChain].map((one) =>
      one === undefined ? "none" : digestOf(one),
    ),
  ].join(":")
  const signed = cache === undefined ? make() : cache.collateral.of(key, make)

  const signer = signerAt(signed.signers, now)
  checkFresh("tcbInfo", signed.tcbInfo, rules)
  checkFresh("qeIdentity", signed.qeIdentity, rules)
  const revocation = checkRevocation(signed, chain, signer, now)
  return {
    tcbInfo: signed.tcbInfo,
    qeIdentity: signed.qeIdentity,
    revocation,
    uses: usesOf(signed, signer, digests),
  }
}

const digestOf = (bytes: Uint8Array): string => toHex(native.sha256(bytes))

const required = (collateral: TdxCollateral, name: keyof TdxCollateral): Uint8Array => {
  const bytes = collateral[name]
  if (bytes === undefined)
    throw new TdxError("COLLATERAL_MISSING", `collateral.${name}`, "none", `${fileNames[name].join(" or ")}`)
  return bytes
}

const verifySigned = (
  collateral: TdxCollateral,
  tcbInfo: Uint8Array,
  qeIdentity: Uint8Array,
  chain: IntelChain,
  crypto: Crypto,
  cache?: TdxCache,
): SignedCollateral => {
  const { signers, key } = verifySigners(collateral, chain, crypto, cache)
  return {
    signers,
    tcbInfo: readTcbInfo(verifySignedJson("collateral.tcbInfo", tcbInfo, "tcbInfo", key, crypto)),
    qeIdentity: readQeIdentity(
      verifySignedJson("collateral.qeIdentity", qeIdentity, "enclaveIdentity", key, crypto),
    ),
    rootCrl: collateral.rootCrl && verifyCrl("rootCrl", collateral.rootCrl, chain.rootOutline, crypto),
    pckCrl: collateral.pckCrl && verifyCrl("pckCrl", collateral.pckCrl, chain.caOutline, crypto),
  }
}

/** One signer that was supplied, or Intel's known ones, which have one key. */
const verifySigners = (
  { tcbSigningChain }: TdxCollateral,
  chain: IntelChain,
  crypto: Crypto,
  cache?: TdxCache,
): { signers: IntelCertificate[]; key: Uint8Array } => {
  if (tcbSigningChain === undefined && chain.root.emulated)
    throw new TdxError(
      "COLLATERAL_MISSING",
      "collateral.tcbSigningChain",
      "none",
      "the certificate that signs the collateral of an emulated root",
    )
  const [given] =
    tcbSigningChain === undefined ? [] : splitCertificates("collateral.tcbSigningChain", tcbSigningChain)
  const outlines = (given === undefined ? intelTcbSigning : [given]).map((der) =>
    outlineOf("tcbSigning", der),
  )
  const [first] = outlines
  if (first === undefined)
    throw new TdxError("CHAIN_LENGTH", "collateral.tcbSigningChain", "0", "the TCB signing certificate")
  const signers = outlines.map((outline) =>
    verifyIssued("tcbSigning", outline, chain.rootOutline, crypto, cache),
  )
  return { signers, key: first.publicKey }
}

/** The signer that is within its dates; if there is none, what is wrong with the newest. */
const signerAt = (signers: readonly IntelCertificate[], now: Date): IntelCertificate => {
  const time = now.getTime()
  const current = signers.find(
    ({ notBefore, notAfter }) => notBefore.getTime() <= time && time <= notAfter.getTime(),
  )
  const signer = current ?? signers.at(-1)
  if (signer === undefined)
    throw new TdxError(
      "COLLATERAL_MISSING",
      "collateral.tcbSigningChain",
      "none",
      "the TCB signing certificate",
    )
  checkCertificateDates(signer, now)
  return signer
}

const checkFresh = (name: "tcbInfo" | "qeIdentity", dated: Dated, rules: CollateralRules): void => {
  const { now, minimumTcbEvaluationDataNumber: floor = 0 } = rules
  const { issueDate, nextUpdate, evaluationDataNumber } = dated
  if (!(issueDate.getTime() <= now.getTime()))
    throw new TdxError(
      "COLLATERAL_NOT_YET_VALID",
      `collateral.${name}.issueDate`,
      isoOf(issueDate),
      `at most ${isoOf(now)}`,
    )
  if (!(now.getTime() <= nextUpdate.getTime()))
    throw new TdxError(
      "COLLATERAL_EXPIRED",
      `collateral.${name}.nextUpdate`,
      isoOf(nextUpdate),
      `at least ${isoOf(now)}`,
    )
  if (!(evaluationDataNumber >= floor))
    throw new TdxError(
      "COLLATERAL_SUPERSEDED",
      `collateral.${name}.tcbEvaluationDataNumber`,
      `${evaluationDataNumber}`,
      `at least ${floor}`,
    )
}

const checkRevocation = (
  { rootCrl, pckCrl }: SignedCollateral,
  chain: IntelChain,
  signer: IntelCertificate,
  now: Date,
): Revocation => {
  const below = chain.certificates.filter(({ role }) => role === "ca")
  for (const [crl, subjects] of [
    [rootCrl, [...below, signer]],
    [pckCrl, [chain.pck]],
  ] as const) {
    if (crl === undefined) continue
    checkCrlDates(crl, now)
    for (const { role, serial } of subjects)
      if (crl.revoked.has(serial))
        throw new TdxError(
          "CERTIFICATE_REVOKED",
          `certificates.${role}.serial`,
          `${serial}, revoked`,
          `a serial number that collateral.${crl.name} doesn't name`,
        )
  }
  return {
    pck: pckCrl === undefined ? "unknown" : "good",
    issuers: rootCrl === undefined ? "unknown" : "good",
  }
}

const usesOf = (
  signed: SignedCollateral,
  signer: IntelCertificate,
  digests: { readonly tcbInfo: string; readonly qeIdentity: string },
): CollateralUse[] => {
  const dated = (kind: CollateralUse["kind"], sha256: string, of: Dated): CollateralUse => ({
    kind,
    sha256,
    issued: of.issueDate,
    expires: of.nextUpdate,
    evaluationDataNumber: of.evaluationDataNumber,
  })
  const list = (kind: CollateralUse["kind"], crl: Crl | undefined): CollateralUse[] =>
    crl === undefined ? [] : [{ kind, sha256: crl.digest, issued: crl.thisUpdate, expires: crl.nextUpdate }]
  return [
    dated("intel-tcb-info", digests.tcbInfo, signed.tcbInfo),
    dated("intel-qe-identity", digests.qeIdentity, signed.qeIdentity),
    {
      kind: "intel-tcb-signing",
      sha256: signer.fingerprint,
      issued: signer.notBefore,
      expires: signer.notAfter,
    },
    ...list("intel-root-crl", signed.rootCrl),
    ...list("intel-pck-crl", signed.pckCrl),
  ]
}
