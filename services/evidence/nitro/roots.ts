/** Which keys may stand at the top of a Nitro chain. A root is known by its key, never by its name. */
import { NitroError } from "./error.ts"

export interface NitroRoot {
  readonly vendor: "aws"
  /** For people. */
  readonly name: string
  /** SHA-256 of the SubjectPublicKeyInfo, in hex. */
  readonly key_digest: string
  readonly emulated: boolean
}

/**
 * The root key of AWS's commercial partitions: that of the certificate `aws.nitro-enclaves` (Root G1), whose own SHA-256
 * AWS publishes as 641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b. Enclaves and NitroTPM share it.
 */
export const awsRoots: readonly NitroRoot[] = [
  {
    vendor: "aws",
    name: "AWS Nitro Enclaves Root G1",
    key_digest: "f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225",
    emulated: false,
  },
]

/**
 * The accepted root that has this key. A list that calls a lab's key genuine, or AWS's emulated, is refused rather than
 * followed.
 * @throws NitroError ROOT_UNKNOWN, ROOT_MISLABELLED
 */
export const acceptedRoot = (roots: readonly NitroRoot[], keyDigest: string): NitroRoot => {
  const root = roots.find((one) => one.key_digest === keyDigest)
  if (root === undefined)
    throw new NitroError("ROOT_UNKNOWN", "certificates.root", keyDigest, "the key of an accepted root")
  const genuine = awsRoots.some((one) => one.key_digest === keyDigest)
  if (root.vendor !== "aws" || root.emulated === genuine)
    throw new NitroError(
      "ROOT_MISLABELLED",
      "roots",
      `${keyDigest} as ${root.vendor}, ${root.emulated ? "emulated" : "genuine"}`,
      genuine ? "aws, genuine" : "emulated: it is not AWS's key",
    )
  return root
}
