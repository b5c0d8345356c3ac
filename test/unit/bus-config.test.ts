/** Where a service finds its bus: addresses of both families, names, several servers, and nothing that holds a secret. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConfigProvider, Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { newUser } from "../../services/common/bus/bus.ts"
import { busConfig } from "../../services/common/bus/config.ts"

let directory = ""
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-bus-config-"))
  writeFileSync(join(directory, "seed"), newUser().seed, { mode: 0o600 })
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const read = (url: string) =>
  Effect.runPromise(
    busConfig("operator").parse(
      ConfigProvider.fromEnv({
        env: {
          VOUCHSAFE_NATS_URL: url,
          VOUCHSAFE_NATS_SEED: join(directory, "seed"),
          VOUCHSAFE_INSTANCE: "lab",
        },
      }),
    ),
  )

describe("VOUCHSAFE_NATS_URL", () => {
  it.each([
    "nats://10.99.0.1:4222",
    "tls://bus.example.org:4222",
    "nats://bus",
    "nats://[2001:db8::1]:4222",
    "nats://[::1]",
    "nats://[2001:DB8::1]:4222,nats://10.99.0.1:4222",
  ])("may be %s", async (url) => {
    expect((await read(url)).url).toBe(url)
  })

  it.each([
    "nats://2001:db8::1:4222",
    "nats://[2001:db8::1",
    "nats://[2001:db8::1::2]:4222",
    "nats://[fe80::1%eth0]:4222",
    "nats://[10.99.0.1]:4222",
    "nats://10.99.0.1:0",
    "nats://10.99.0.1:65536",
    "nats://10.99.0.1:4222/path",
    "nats://me:secret@10.99.0.1:4222",
    "nats://10.99.0.1:4222,",
    "http://10.99.0.1:4222",
    "nats://10.99.0.1:4222\n",
  ])("may not be %j, and the message doesn't repeat it", async (url) => {
    const failure = await read(url).then(
      () => "",
      (error: unknown) => String(error),
    )
    expect(failure).toMatch(/VOUCHSAFE_NATS_URL: nats:\/\/host:port or tls/)
    expect(failure).not.toContain("secret")
  })
})
