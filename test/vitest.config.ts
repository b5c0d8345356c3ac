import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

/**
 * Two groups. `unit` needs nothing but memory and runs beside itself; the rest work on this machine's kernel, network
 * and clocks, so their files run one after another, and after the units.
 */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  cacheDir: ".cache/vite",
  test: {
    pool: "forks",
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
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
