/** What the benchmark measures are verifications that succeed. */
import { expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import { answers, inLine, sampleSnapshot } from "./appraisal.ts"
import { haveVectors, subjects } from "./evidence.ts"
import { quantile } from "./machine.ts"

it("measures verifications that hold, cold and warm, with both implementations", () => {
  const all = subjects()
  expect(all.map(({ kind }) => kind)).toEqual(haveVectors ? ["snp", "tdx", "tpm", "nitro"] : ["snp", "nitro"])
  for (const { verify } of all)
    for (const crypto of [native, noble])
      for (const warmth of ["cold", "warm", "warm"] as const)
        expect(() => verify(crypto, warmth)).not.toThrow()
})

it.runIf(haveVectors)(
  "measures appraisals that hardware stands behind: only what was asked is another's",
  () => {
    const judge = inLine(sampleSnapshot())
    const all = answers()
    expect(all.map(({ kind }) => kind)).toEqual(["snp", "tdx", "tpm", "nitro", "snp+tpm"])
    for (const answer of all)
      for (const warmth of ["cold", "warm", "warm"] as const) {
        const { checks } = judge(answer, native, warmth)
        const failed = checks.filter(({ result }) => result === "failed").map(({ name }) => name)
        expect(checks).toContainEqual(expect.objectContaining({ name: "genuine", result: "passed" }))
        expect(failed.some((name) => name.endsWith("report-data"))).toBe(true)
        for (const name of failed)
          expect(name).toMatch(/report-data$|^measurement$|^mrtd$|^rtmr|pcr-0$|^tcb-|^advisories$/)
      }
  },
)

it("takes quantiles that are values measured", () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2)
  expect(quantile([1], 0.99)).toBe(1)
  expect(quantile([], 0.5)).toBeNaN()
})
