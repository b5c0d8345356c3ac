/**
 * Runs every test: formatting and lint, types, the generated files, then the suites. A line for each as it ends; the last line is
 * `N passed, N failed`, and the status is 0 only when nothing failed and something ran.
 *
 *   node test/run.ts [path filters]     with filters only the suites whose path contains one of them
 */
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import type { Reporter, TestCase, TestModule } from "vitest/node"
import { startVitest } from "vitest/node"

const root = fileURLToPath(new URL("..", import.meta.url))
const began = performance.now()
const filters = process.argv.slice(2)

const total = { passed: 0, failed: 0 }
const skipped: string[] = []
let files = 0

const line = (text: string): void => {
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  process.stdout.write(`${seconds.padStart(7)} s  ${text}\n`)
}

const indent = (text: string): string => text.replace(/^/gm, "           ")

/** One check that is a program: its status is the test's result. */
const check = (name: string, args: ReadonlyArray<string>): void => {
  const started = performance.now()
  const run = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", maxBuffer: 64 << 20 })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  if (run.status === 0) {
    total.passed += 1
    line(`ok    ${name} (${seconds} s)`)
    return
  }
  total.failed += 1
  line(`FAIL  ${name} (${seconds} s)`)
  const said = `${run.stdout ?? ""}${run.stderr ?? ""}${run.error?.message ?? ""}`.trimEnd().split("\n")
  process.stdout.write(`${indent(said.slice(0, 60).join("\n"))}\n`)
}

/** Of one difference between what was found and what was wanted. */
const LINES_MAX = 80

interface Failure {
  readonly name: string
  readonly errors: ReadonlyArray<{ message?: string; diff?: string | undefined; stack?: string | undefined }>
}

/** Of a difference in thousands of values the first ones say which kind it is. */
const firstLines = (text: string): string => {
  const lines = text.split("\n")
  return lines.length <= LINES_MAX
    ? text
    : `${lines.slice(0, LINES_MAX).join("\n")}\n(${lines.length - LINES_MAX} lines more)`
}

const describeFailure = (failure: Failure): string => {
  const parts = failure.errors.map((error) => {
    const frames = (error.stack ?? "")
      .split("\n")
      .filter((frame) => frame.includes(root) && !frame.includes("node_modules"))
    return [error.message ?? "no message", firstLines(error.diff ?? ""), ...frames.slice(0, 4)]
      .filter((part) => part !== "")
      .join("\n")
  })
  return `${failure.name}\n${indent(parts.join("\n"))}`
}

/** Prints one line per file, the failures below it, and now and then what is still running. */
class Lines implements Reporter {
  readonly #running = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined

  onInit(): void {
    this.#timer = setInterval(() => {
      const now = performance.now()
      const waiting = [...this.#running].filter(([, since]) => now - since > 25_000)
      for (const [file, since] of waiting)
        line(`...   ${file} (${Math.round((now - since) / 1000)} s so far)`)
    }, 30_000)
    this.#timer.unref()
  }

  onTestModuleStart(module: TestModule): void {
    this.#running.set(relative(root, module.moduleId), performance.now())
  }

  onTestModuleEnd(module: TestModule): void {
    files += 1
    const file = relative(root, module.moduleId)
    const since = this.#running.get(file) ?? performance.now()
    this.#running.delete(file)
    const failures: Failure[] = []
    if (module.errors().length > 0) failures.push({ name: file, errors: module.errors() })
    for (const suite of module.children.allSuites()) {
      if (suite.errors().length > 0) failures.push({ name: suite.fullName, errors: suite.errors() })
    }
    let passed = 0
    let left = 0
    for (const test of module.children.allTests()) {
      const result = test.result()
      if (result.state === "passed") passed += 1
      else if (result.state === "failed") failures.push({ name: test.fullName, errors: result.errors })
      else {
        left += 1
        skipped.push(`${file}: ${test.fullName}${skipNote(test)}`)
      }
    }
    if (passed + failures.length + left === 0)
      failures.push({ name: `${file}: the file holds no test`, errors: [] })
    total.passed += passed
    total.failed += failures.length
    const counts = [
      `${passed} passed`,
      failures.length > 0 ? `${failures.length} FAILED` : "",
      left > 0 ? `${left} SKIPPED` : "",
    ]
    const seconds = ((performance.now() - since) / 1000).toFixed(1)
    line(
      `${failures.length > 0 ? "FAIL" : "ok  "}  ${file}: ${counts.filter((part) => part !== "").join(", ")} (${seconds} s)`,
    )
    for (const failure of failures) process.stdout.write(`${indent(describeFailure(failure))}\n`)
  }

  onTestRunEnd(
    _modules: ReadonlyArray<TestModule>,
    unhandled: ReadonlyArray<{ message: string; stack?: string }>,
  ): void {
    clearInterval(this.#timer)
    for (const error of unhandled) {
      total.failed += 1
      line("FAIL  an error that no test caught")
      process.stdout.write(`${indent(describeFailure({ name: "unhandled", errors: [error] }))}\n`)
    }
  }
}

const skipNote = (test: TestCase): string => {
  const result = test.result()
  return result.state === "skipped" && result.note !== undefined ? ` (${result.note})` : ""
}

const finish = (): void => {
  if (skipped.length > 0) {
    process.stdout.write(`\n*** ${skipped.length} SKIPPED ***\n`)
    for (const name of skipped.slice(0, 40)) process.stdout.write(`  ${name}\n`)
  }
  const ok = total.failed === 0 && total.passed > 0
  // Whatever a test left open must not keep the run alive, nor may it print after the last line.
  process.stdout.write(`\n${total.passed} passed, ${total.failed} failed\n`, () => process.exit(ok ? 0 : 1))
}

if (filters.length === 0) {
  check("biome: format and lint", [
    "node_modules/@biomejs/biome/bin/biome",
    "check",
    "--max-diagnostics=20",
    ".",
  ])
  check("tsc: types", ["node_modules/typescript/bin/tsc", "--noEmit", "--pretty", "false"])
  if (existsSync(`${root}schemas/generate.ts`))
    check("generated files are up to date", ["schemas/generate.ts", "--check"])
}
try {
  const vitest = await startVitest(filters, {
    config: "test/vitest.config.ts",
    root,
    watch: false,
    reporters: [new Lines()],
  })
  await vitest.close()
  if (files === 0) {
    total.failed += 1
    line(`FAIL  no test file matches ${filters.length > 0 ? filters.join(" ") : "the configuration"}`)
  }
} catch (error) {
  total.failed += 1
  line(`FAIL  vitest: ${error instanceof Error ? error.message : String(error)}`)
}
finish()
