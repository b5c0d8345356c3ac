/** OpenSSL, which knows nothing of quotes, says the same of every chain and revocation list that comes with one. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { parseQuote } from "../../services/evidence/tdx/index.ts"
import { splitCertificates } from "../../services/evidence/tdx/pem.ts"
import { days, Hierarchy, now, pemOf } from "../support/tdx-lab.ts"
import { haveVectors, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

const haveOpenssl = spawnSync("openssl", ["version"]).status === 0
if (!haveOpenssl) console.warn("NOT COMPARED WITH OPENSSL: all chains skipped, for there is no openssl here")

const folder = mkdtempSync(join(tmpdir(), "vouchsafe-openssl-"))
afterAll(() => rmSync(folder, { recursive: true }))

const openssl = (...args: readonly string[]) => spawnSync("openssl", args, { cwd: folder, timeout: 10_000 })
const put = (name: string, bytes: Uint8Array): void => writeFileSync(join(folder, name), bytes)

/**
 * @param chain PCK, CA, root
 * @param options `-x509_strict` asks for key identifiers too, which made-up certificates lack
 */
const believes = (
  chain: readonly Uint8Array[],
  crls: readonly Uint8Array[],
  at: Date,
  ...options: readonly string[]
): boolean => {
  for (const [i, name] of ["pck", "ca", "root"].entries())
    put(`${name}.pem`, pemOf(chain[i] ?? new Uint8Array(0)))
  const lists = crls.map((der, i) => {
    put(`${i}.der`, der)
    openssl("crl", "-inform", "der", "-in", `${i}.der`, "-out", `${i}.crl`)
    return ["-CRLfile", `${i}.crl`]
  })
  const time = `${Math.floor(at.getTime() / 1000)}`
  const check = crls.length > 0 ? ["-crl_check_all", ...lists.flat()] : []
  const { status } = openssl(
    "verify",
    ...options,
    "-attime",
    time,
    "-CAfile",
    "root.pem",
    "-untrusted",
    "ca.pem",
    ...check,
    "pck.pem",
  )
  return status === 0
}

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: string
  readonly verifications?: readonly { collateral: string; at: string; crls: string }[]
}

const pairs =
  haveVectors && haveOpenssl
    ? (readVectorJson("MANIFEST.json") as readonly Entry[])
        .filter(({ kind, expect: valid }) => kind === "tdx-quote" && valid === "valid")
        .flatMap(({ file, verifications = [] }) => verifications.map((one) => ({ file, ...one })))
        .filter(({ crls }) => crls === "complete")
    : []
if (!haveVectors)
  console.warn(
    `NO REAL CHAIN COMPARED: 20 skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

describe.each(pairs)("$file with $collateral", ({ file, collateral, at }) => {
  it("has a chain that OpenSSL believes with its revocation lists, and not after their time", () => {
    const chain = splitCertificates("certificates", parseQuote(readVector(file)).certification.data)
    const crls = ["root-ca-crl.der", "pck-crl.der"].map((name) => readVector(`${collateral}/${name}`))
    expect(believes(chain, crls, new Date(at), "-x509_strict")).toBe(true)
    expect(believes(chain, crls, new Date(Date.parse(at) + 400 * 86_400_000))).toBe(false)
  })
})

describe.runIf(haveOpenssl)("a made-up platform", () => {
  const lab = new Hierarchy()

  it("is believed by OpenSSL, but for revoked, expired and foreign certificates", () => {
    const crls = [lab.crl("root"), lab.crl("ca")]
    const chain = lab.chain()
    const expired = [lab.certificate("pck", { notAfter: days(-1) }), ...chain.slice(1)]
    const foreign = [new Hierarchy().certificate("pck"), ...chain.slice(1)]
    expect(believes(chain, crls, now)).toBe(true)
    expect(believes(chain, [lab.crl("root"), lab.crl("ca", { revoked: [4] })], now)).toBe(false)
    expect(believes(chain, [lab.crl("root", { revoked: [2] }), lab.crl("ca")], now)).toBe(false)
    expect(believes(expired, crls, now)).toBe(false)
    expect(believes(foreign, crls, now)).toBe(false)
  })
})
