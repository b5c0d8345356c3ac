/** AMD's revocation lists among what was named and what lies in the collateral folder: the newest of its time, by product. */
import { recognise } from "../../evidence/collateral/recognise.ts"
import { DerError } from "../../evidence/der.ts"
import type { SnpProduct } from "../../evidence/snp/product.ts"
import { readCrl } from "../../evidence/x509/crl.ts"
import type { Context } from "./context.ts"
import { type Item, itemsIn } from "./files.ts"

const listFile = /\.(?:crl|der)$/i

/** Unverified: for choosing only. */
const issuedOf = ({ bytes }: Item): number => {
  try {
    return readCrl(bytes).content().thisUpdate.getTime()
  } catch (error) {
    if (error instanceof DerError) return Number.NEGATIVE_INFINITY
    throw error
  }
}

/** At most one, DER: of those that were given, or else of those in the folder, the newest that isn't of the future. */
export const amdListsFor = (
  product: SnpProduct,
  { given, collateral, at }: Context,
): readonly Uint8Array[] => {
  const isOurs = ({ bytes }: Item): boolean => {
    const what = recognise(bytes)
    return what?.kind === "amd-crl" && what.product === product
  }
  const named = given.filter(isOurs)
  const found =
    named.length > 0 || collateral === undefined ? named : itemsIn(collateral, listFile).filter(isOurs)
  const aged = found.map((item) => [issuedOf(item), item] as const).sort(([a], [b]) => b - a)
  const [chosen] = [...aged.filter(([issued]) => issued <= at.getTime()), ...aged]
  return chosen === undefined ? [] : [chosen[1].bytes]
}
