/** Which keys may stand at the top of Intel's hierarchy. A root is known by its key, never by its name. */
import { TdxError } from "./error.ts"

export interface IntelRoot {
  readonly vendor: "intel"
  /** SHA-256 of the root's SubjectPublicKeyInfo, in hex. */
  readonly key_digest: string
  readonly emulated: boolean
}

/**
 * Intel's SGX and TDX root key, as its provisioning service gives it out
 * (https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer). Certificates of the
 * same name with other keys are in circulation as sample data.
 */
export const intelRoots: readonly IntelRoot[] = [
  {
    vendor: "intel",
    key_digest: "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e",
    emulated: false,
  },
]

/**
 * The accepted root that has this key. A key is Intel's if and only if it is pinned above: a list that calls another
 * key genuine, or Intel's emulated, is refused rather than followed.
 * @throws TdxError ROOT_UNKNOWN, ROOT_MISLABELLED
 */
export const acceptedIntelRoot = (roots: readonly IntelRoot[], keyDigest: string): IntelRoot => {
  const root = roots.find((one) => one.key_digest === keyDigest)
  if (root === undefined)
    throw new TdxError("ROOT_UNKNOWN", "certificates.root", keyDigest, "the key of an accepted root")
  const genuine = intelRoots.some((one) => one.key_digest === keyDigest)
  if (root.vendor !== "intel" || root.emulated === genuine)
    throw new TdxError(
      "ROOT_MISLABELLED",
      "roots",
      `${keyDigest} as ${root.vendor}, ${root.emulated ? "emulated" : "genuine"}`,
      genuine ? "intel, genuine" : "emulated: it isn't Intel's key",
    )
  return root
}
