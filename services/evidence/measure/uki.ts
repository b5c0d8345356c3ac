/**
 * A unified kernel image: systemd's stub with a kernel, initrd and command line in sections. The stub measures each into
 * PCR 11, name and contents (systemd-stub(7), systemd-measure(1)); systemd-pcrphase adds a word for each phase of the boot.
 */
import { type Bank, digest } from "../eventlog/bank.ts"
import { digestsOf } from "./digests.ts"
import { MeasureError, refuser } from "./error.ts"
import { stubSteps } from "./linux.ts"
import { imageDigest, type PeImage, readImage, sectionNamed } from "./pe.ts"
import { type Step, textStep } from "./steps.ts"

/** In the order in which they are measured, with the first version of the stub that does. */
const sections = [
  [".linux", 252],
  [".osrel", 252],
  [".cmdline", 252],
  [".initrd", 252],
  [".ucode", 256],
  [".splash", 252],
  [".dtb", 252],
  [".uname", 254],
  [".sbat", 254],
  [".pcrpkey", 252],
] as const

/** Sections that choose among others, or are measured by rules of their own. */
const unsupported = [".profile", ".dtbauto", ".hwids", ".efifw"] as const

export const phases = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"] as const

const refuse = refuser("IMAGE")

export interface UnifiedImage {
  readonly image: PeImage
  /** The stub's major version, by its own section. */
  readonly version: number
  readonly measured: ReadonlyMap<string, Uint8Array>
}

/** @throws MeasureError IMAGE */
export const readUnifiedImage = (bytes: Uint8Array): UnifiedImage => {
  const image = readImage(bytes, "uki")
  const magic = sectionNamed(image, ".sdmagic", "uki")
  const text = magic && Buffer.from(magic.subarray(0, 256)).toString("latin1")
  const found = text && /#### LoaderInfo: systemd-stub (\d{1,4})/.exec(text)?.[1]
  if (!found) throw refuse("uki.sections", "no .sdmagic of systemd-stub", "an image made with systemd's stub")
  const version = Number(found)
  if (version < 252) throw refuse("uki.version", `systemd-stub ${version}`, "252 or later")
  for (const name of unsupported)
    if (image.sections.some((section) => section.name === name))
      throw refuse("uki.sections", name, "no sections that are chosen among at boot")
  const measured = new Map<string, Uint8Array>()
  for (const [name, since] of sections) {
    const data = version >= since ? sectionNamed(image, name, "uki") : undefined
    if (data !== undefined) measured.set(name, data)
  }
  if (!measured.has(".linux")) throw refuse("uki.sections", "no .linux", "a kernel")
  return { image, version, measured }
}

/** PCR 11 after these phases. @throws MeasureError PHASE */
export const unifiedSteps = (
  bank: Bank,
  { measured }: UnifiedImage,
  passed: readonly string[] = [],
): readonly Step[] => {
  const wrong = passed.find((phase) => !/^[a-z][a-z0-9-]{0,31}$/.test(phase))
  if (wrong !== undefined || passed.length > 16)
    throw new MeasureError("PHASE", "phases", wrong ?? `${passed.length}`, "at most 16 words")
  return [
    ...[...measured].flatMap(([name, data]) => [
      { what: name, digest: digest(bank, Buffer.from(`${name}\0`, "ascii")) },
      { what: `contents of ${name}`, digest: digest(bank, data) },
    ]),
    ...passed.map((phase) => textStep(bank, phase)),
  ]
}

/** The two images of PCR 4: the whole, then the kernel in it, which the stub starts. @throws MeasureError IMAGE */
export const unifiedImages = (bank: Bank, { image, measured }: UnifiedImage): readonly Step[] => {
  const kernel = readImage(measured.get(".linux") ?? new Uint8Array(0), "uki.linux")
  return [
    { what: "unified kernel image", digest: imageDigest(image, bank, "uki") },
    { what: "kernel in it", digest: imageDigest(kernel, bank, "uki.linux") },
  ]
}

/**
 * What the kernel in it measures into PCR 9.
 * @returns undefined where the stub makes up options or initrd itself: no or an unclean command line, microcode
 * @throws MeasureError COMMAND_LINE
 */
export const unifiedKernelSteps = (bank: Bank, { measured }: UnifiedImage): readonly Step[] | undefined => {
  const section = measured.get(".cmdline")
  const text = section && Buffer.from(section).toString("latin1").replace(/\0+$/, "")
  if (text === undefined || text !== text.trim() || text === "" || measured.has(".ucode")) return undefined
  const initrd = measured.get(".initrd")
  return stubSteps(bank, text, initrd && digestsOf(initrd, [bank]))
}
