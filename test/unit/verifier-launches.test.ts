/** Two answers of one node that are judged at the same time: what the first shows holds for the second. */
import { describe, expect, it } from "vitest"
import type { Launch } from "../../schemas/messages/attestation.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import type { Verdict } from "../../services/guest/appraise-node.ts"
import { Launches } from "../../services/verifier/launches.ts"

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte)
const launched = (byte: number): Launch => ({ report_id: filled(32, byte), report_id_ma: filled(32, 0xff) })
const accepted = (launch: Launch): Verdict =>
  ({
    accepted: true,
    result: {
      node: "n1",
      boot: filled(16, 1),
      launch,
      stage: "source",
      assurance: "hardware",
      platform: "sev-snp",
    },
    checks: [],
  }) as never

describe("a verifier's verdict on the run of a machine", () => {
  it("is held against what was judged just before, with nothing in between", () => {
    const launches = new Launches(crypto)
    // Both were asked, and had come, before either was judged.
    const [one, clone] = [accepted(launched(3)), accepted(launched(4))]
    expect(launches.judge(one, 0, 100)).toBe(one)
    expect(launches.judge(clone, 0, 100)).toMatchObject({
      accepted: false,
      code: "CLONED",
      stage: "source",
      emulated: false,
      reason: { name: "launch", result: "failed" },
    })
    expect(launches.judge(one, 50, 200)).toBe(one)
  })

  it("stays what it is when the Evidence was refused already, and nothing is remembered of that", () => {
    const launches = new Launches(crypto)
    const refused = { ...accepted(launched(4)), accepted: false } as never
    expect(launches.judge(refused, 0, 100)).toBe(refused)
    expect(launches.judge(accepted(launched(3)), 0, 100).accepted).toBe(true)
  })
})
