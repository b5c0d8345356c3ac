/** The AEAD bench runs through, on fewer packets, and its table and plot say what they were given. */
import { expect, it } from "vitest"
import { measureAead } from "./aead.ts"
import { barPlot } from "./plot.ts"
import { table } from "./table.ts"

it("measures every size through both programs, with and without a cipher, and through OpenSSL", async () => {
  // It throws unless every packet was sealed or opened, and the build without a cipher has another digest.
  const { sizes, openssl, digest } = await measureAead({ rounds: 2, calls: 5 })
  expect(sizes.map(({ bytes }) => bytes)).toEqual([64, 256, 512, 1024, 1408])
  expect(openssl).toMatch(/^OpenSSL 3/)
  expect(digest).toMatch(/^[0-9a-f]{96}$/)
  for (const row of sizes) {
    expect(row.seal_ns).toBeGreaterThan(row.policy_seal_ns)
    expect(row.open_ns).toBeGreaterThan(row.policy_open_ns)
    expect(row.openssl_scalar_ns).toBeGreaterThan(0)
  }
})

it("draws a bar for each value and leaves gaps", () => {
  const svg = barPlot({
    title: "a < b",
    unit: "ns",
    groups: ["x", "y"],
    series: [
      { name: "one", values: [1, 4000] },
      { name: "two", values: [undefined, 2] },
    ],
  })
  expect(svg).toContain("a &lt; b (ns)")
  expect(svg.match(/<rect /g)).toHaveLength(1 + 2 + 3)
  expect(svg).not.toContain("NaN")
})

it("lines columns up", () => {
  expect(table(["a", "bb"], [["long", 1]])).toEqual(["a     bb", "long   1"])
})
