/** The file with a service's seed: whoever can read or change it can speak as that service. */
import { execFileSync } from "node:child_process"
import { chmodSync, chownSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { ConfigProvider, Effect, Redacted } from "effect"
import { expect, it } from "vitest"
import { newUser } from "../../services/common/bus/bus.ts"
import { busConfig } from "../../services/common/bus/config.ts"
import { scratchDirectory } from "../support/scratch.ts"

const directory = scratchDirectory("seed")
const stranger = 65_534
const { seed } = newUser()

let files = 0
const seedFile = (): string => {
  const path = join(directory, `${files++}.nk`)
  writeFileSync(path, seed, { mode: 0o600 })
  return path
}

const read = (path: string) =>
  Effect.runPromise(
    busConfig("operator").parse(
      ConfigProvider.fromEnv({
        env: {
          VOUCHSAFE_NATS_URL: "nats://127.0.0.1:4222",
          VOUCHSAFE_NATS_SEED: path,
          VOUCHSAFE_INSTANCE: "lab",
        },
      }),
    ),
  )

it("is read, through a link too", async () => {
  const path = seedFile()
  symlinkSync(path, join(directory, "link"))
  for (const one of [path, join(directory, "link")])
    expect(Redacted.value((await read(one)).seed)).toEqual(seed)
})

it("is refused where others can read it, where it is somebody else's, and where it is none", async () => {
  const [open, foreign, large] = [seedFile(), seedFile(), seedFile()]
  chmodSync(open, 0o640)
  chownSync(foreign, stranger, stranger)
  truncateSync(large, 1 << 30)
  const [pipe, folder] = [join(directory, "pipe"), join(directory, "folder")]
  execFileSync("mkfifo", ["-m", "600", pipe])
  mkdirSync(folder, { mode: 0o700 })
  for (const [path, why] of [
    [open, /others than its owner/],
    [foreign, /belongs to user 65534/],
    [large, /does not hold the seed/],
    [pipe, /no plain file/],
    [folder, /no plain file/],
    [join(directory, "nothing"), /ENOENT/],
  ] as const) {
    const said = await read(path).then(
      () => "read",
      (error: unknown) => String(error),
    )
    expect(said).toMatch(why)
    expect(said).not.toContain(Buffer.from(seed).toString())
  }
})
