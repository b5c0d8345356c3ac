/** Which keys may stand at the top of a chain. A root is known by its key, never by its name. */
import type { HardwareRoot as AnyRoot } from "../../../schemas/platforms.ts"
import { SnpError } from "./error.ts"
import type { SnpProduct } from "./product.ts"

/** AMD's, of the roots that a workflow may name. */
export type HardwareRoot = Extract<AnyRoot, { readonly vendor: "amd" }>

const amd = (product: SnpProduct, key_digest: string): HardwareRoot => ({
  vendor: "amd",
  product,
  key_digest,
  emulated: false,
})

/**
 * AMD's root keys: SHA-256 of the SubjectPublicKeyInfo of each ARK certificate, as AMD's key distribution service gives
 * them out (https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain, the last certificate).
 */
export const amdRoots: readonly HardwareRoot[] = [
  amd("Milan", "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
  amd("Genoa", "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
  amd("Turin", "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
]

/**
 * The accepted root that has this key.
 *
 * Whether a root is emulated isn't for the list to say freely: a key is AMD's if and only if it is pinned above. A list
 * that calls a lab's key genuine, or AMD's emulated, or names the wrong product, is refused rather than followed.
 * @throws SnpError ROOT_UNKNOWN, ROOT_MISLABELLED
 */
export const acceptedRoot = (roots: readonly HardwareRoot[], keyDigest: string): HardwareRoot => {
  const root = roots.find((one) => one.key_digest === keyDigest)
  if (root === undefined)
    throw new SnpError("ROOT_UNKNOWN", "certificates.ark", keyDigest, "the key of an accepted root")
  const genuine = amdRoots.find((one) => one.key_digest === keyDigest)
  if (
    root.vendor !== "amd" ||
    root.emulated !== (genuine === undefined) ||
    (genuine && genuine.product !== root.product)
  )
    throw new SnpError(
      "ROOT_MISLABELLED",
      "roots",
      `${keyDigest} as ${root.vendor} ${root.product}, ${root.emulated ? "emulated" : "genuine"}`,
      genuine ? `amd ${genuine.product}, genuine` : "emulated: it is none of AMD's keys",
    )
  return root
}
