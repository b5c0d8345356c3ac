/** Runs Spin's checker: a model and its flags go in, what was explored or broken comes out. */
import { execFile, spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const models = fileURLToPath(new URL(".", import.meta.url))

/** Megabytes: a search that needs more ends as incomplete, which is an error. */
const MEMORY_MB = 500
const SEARCH_MS = 120_000
const COMPILE_MS = 120_000

export interface Outcome {
  readonly states: number
  readonly depth: number
  readonly memoryMb: number
  readonly searchS: number
  /** The property that the checker found broken; undefined when everything was explored and all hold. */
  readonly broken: string | undefined
  /** Statements that no run reached, as `proctype file:line text`. */
  readonly unreached: ReadonlyArray<string>
}

/** Programs that are missing on this machine. */
export const missingTools = (): ReadonlyArray<string> =>
  [
    ["spin", "-V"],
    ["gcc", "--version"],
  ].flatMap(([tool = "", flag = ""]) => (spawnSync(tool, [flag]).status === 0 ? [] : [tool]))

const run = (program: string, args: ReadonlyArray<string>, cwd: string, timeout: number) =>
  new Promise<string>((resolve, reject) => {
    execFile(program, args, { cwd, timeout, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      const said = `${stdout}${stderr}`
      if (error === null) resolve(said)
      else reject(new Error(`${program} ${args.join(" ")}: ${error.message}\n${said.slice(-2_000)}`))
    })
  })

const figure = (output: string, pattern: RegExp): number => {
  const found = pattern.exec(output)?.[1]
  if (found === undefined) throw new Error(`the checker did not say ${pattern}:\n${output.slice(-2_000)}`)
  return Number(found)
}

const brokenProperty = (output: string): string | undefined => {
  if (figure(output, /errors: (\d+)/) === 0) return undefined
  const assertion = /assertion violated \((\w+)\|\|/.exec(output)?.[1]
  if (assertion !== undefined) return assertion
  if (output.includes("acceptance cycle (at depth")) return "progress"
  throw new Error(`an error that is no broken property:\n${output.slice(0, 2_000)}`)
}

const unreachedStatements = (output: string): ReadonlyArray<string> => {
  let proctype = ""
  return output.split("\n").flatMap((line) => {
    proctype = /^unreached in (?:proctype|init|claim) ?(\S*)/.exec(line)?.[1] ?? proctype
    const [, place, text] = /^\t(\S+:\d+), state \d+, "(.*)"/.exec(line) ?? []
    return place === undefined || text === "-end-" ? [] : [`${proctype} ${place} ${text}`]
  })
}

/**
 * Explores every state of a model, or up to the first broken property.
 * @param model file name beside this one
 * @param flags preprocessor flags without -D; PROGRESS asks for the temporal property instead of the assertions alone
 * @param options quick: few states are expected, so that compiling costs more than searching
 * @throws Error when the model doesn't compile, or the search was not exhaustive within its memory and time
 */
export const check = async (
  model: string,
  flags: ReadonlyArray<string>,
  { quick = false }: { readonly quick?: boolean } = {},
): Promise<Outcome> => {
  const directory = mkdtempSync(join(tmpdir(), "vouchsafe-model-"))
  try {
    cpSync(models, directory, {
      recursive: true,
      filter: (path) => !/\.[a-z]+$/.test(path.slice(models.length)) || /\.(pml|h)$/.test(path),
    })
    const temporal = flags.includes("PROGRESS")
    await run("spin", [...flags.map((flag) => `-D${flag}`), "-a", model], directory, COMPILE_MS)
    const kind = temporal ? "-DNOFAIR" : "-DSAFETY"
    const pan = [quick ? "-O0" : "-O2", "-w", kind, `-DMEMLIM=${MEMORY_MB}`, "-o", "pan", "pan.c"]
    await run("gcc", pan, directory, COMPILE_MS)
    const output = await run(
      join(directory, "pan"),
      ["-w22", "-m20000", ...(temporal ? ["-a"] : [])],
      directory,
      SEARCH_MS,
    )
    const broken = brokenProperty(output)
    if (/max search depth too small|reached -DMEMLIM/.test(output))
      throw new Error(`the search was not exhaustive:\n${output.slice(0, 2_000)}`)
    if (broken === undefined && output.includes("Search not completed"))
      throw new Error(`the search did not end:\n${output.slice(0, 2_000)}`)
    return {
      states: figure(output, /([\d.e+]+) states, stored/),
      depth: figure(output, /depth reached (\d+)/),
      memoryMb: figure(output, /([\d.]+)\ttotal actual memory usage/),
      searchS: figure(output, /elapsed time ([\d.e+-]+) seconds/),
      broken,
      unreached: unreachedStatements(output),
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** One line for people. */
export const describeOutcome = (name: string, { states, depth, memoryMb, searchS, broken }: Outcome) =>
  `${name}: ${broken === undefined ? "holds" : `breaks ${broken}`} (${states.toLocaleString("en")} states, depth ${depth}, ${memoryMb.toFixed(0)} MB, ${searchS.toFixed(1)} s)`
