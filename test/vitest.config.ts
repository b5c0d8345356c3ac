import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { LongestFirst } from "./support/order.ts"

/** What measures, or takes both processors for itself: nothing else may run meanwhile. */
const ALONE = ["test/bench/**/*.test.ts", "test/hostile/adversary.test.ts", "test/hostile/flood.test.ts"]

/**
 * Three groups, one after another. `unit` needs nothing but memory. `machine` works on this machine's kernel, network and clocks, each file
 * in namespaces, pins, directories and on a server of its own, and mostly waits: for leases, boots, starts of processes. Two files at once
 * leave the processors enough room for streams that must not lose a packet. `alone` is what others would disturb.
 */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  cacheDir: ".cache/vite",
  test: {
    pool: "forks",
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          maxWorkers: 2,
          testTimeout: 90_000,
          hookTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "machine",
          include: ["test/!(unit)/**/*.test.ts"],
          exclude: ALONE,
          globalSetup: "test/support/machine.ts",
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: ALONE,
          globalSetup: "test/support/machine.ts",
          maxWorkers: 1,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
