/** A folder of collateral: which files count, and how much of them. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeEach, describe, expect, it } from "vitest"
import { readCollateralFolder } from "../../services/evidence/collateral/index.ts"
import { tdxCollateralOf } from "../../services/evidence/tdx/index.ts"

const top = mkdtempSync(join(tmpdir(), "vouchsafe-collateral-"))
let folder = top
let count = 0

beforeEach(() => {
  folder = join(top, `${count++}`)
  mkdirSync(folder)
})
afterAll(() => rmSync(top, { recursive: true }))

const put = (name: string, content: string | Uint8Array): void => writeFileSync(join(folder, name), content)
const refused = (code: string) => expect.objectContaining({ name: "CollateralError", code })

describe("a folder of collateral", () => {
  it("gives the files whose names say what they are, and no others", () => {
    for (const name of ["tcb-info.json", "pck-crl.der", "a.pem", "b.crl", "README.md", ".hidden", "no-end"])
      put(name, name)
    mkdirSync(join(folder, "sub.json"))
    expect([...readCollateralFolder(folder).keys()]).toEqual([
      "a.pem",
      "b.crl",
      "pck-crl.der",
      "tcb-info.json",
    ])
  })

  it("is bounded, in files and in bytes", () => {
    put("full.json", new Uint8Array(65_536))
    expect(readCollateralFolder(folder).get("full.json")).toHaveLength(65_536)
    put("over.json", new Uint8Array(65_537))
    expect(() => readCollateralFolder(folder)).toThrow(refused("FILE_TOO_LARGE"))
    for (let i = 0; i < 65; i++) put(`${i}.der`, "")
    expect(() => readCollateralFolder(folder)).toThrow(refused("FILES_TOO_MANY"))
  })

  it("refuses what isn't a regular file, at once", () => {
    symlinkSync("/dev/zero", join(folder, "endless.json"))
    expect(() => readCollateralFolder(folder)).toThrow(refused("FILE_UNREADABLE"))
  })

  it("follows links to files, as mounted configuration has them, and says which are broken", () => {
    put("tcb-info.json", "{}")
    symlinkSync(join(folder, "tcb-info.json"), join(folder, "qe-identity.json"))
    expect(readCollateralFolder(folder).get("qe-identity.json")).toEqual(Uint8Array.from(Buffer.from("{}")))
    symlinkSync(join(folder, "nothing"), join(folder, "pck-crl.der"))
    expect(() => readCollateralFolder(folder)).toThrow(refused("FILE_UNREADABLE"))
  })

  it("is read as Intel's by the names of its files", () => {
    put("tcb-info.json", "1")
    put("qe-identity.json", "2")
    put("root-ca-crl.der", "3")
    put("pck-crl.der", "4")
    put("tcb-signing.der", "5")
    put("other.der", "6")
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()
    const collateral = tdxCollateralOf(readCollateralFolder(folder))
    expect(Object.entries(collateral).map(([name, bytes]) => [name, text(bytes)])).toEqual([
      ["tcbInfo", "1"],
      ["qeIdentity", "2"],
      ["rootCrl", "3"],
      ["pckCrl", "4"],
      ["tcbSigningChain", "5"],
    ])
  })
})
