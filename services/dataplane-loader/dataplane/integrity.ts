/**
 * Whether what is in the kernel is still what was measured: our programs on their hooks and nobody beside or before them,
 * our pins, our configuration. Another root can change all of that; here it is found within one look, which costs less
 * than a millisecond, and put right where nobody else is in the way.
 */
import { lstatSync, mkdirSync, readdirSync, unlinkSync } from "node:fs"
import { dirname, join } from "node:path"
import { closeFd, openPinned, pin } from "../../common/kernel/bpf.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import {
  type Attached,
  createTcxLink,
  type Hooks,
  hookRevision,
  linkInfo,
  queryHook,
  updateTcxLink,
} from "../../common/kernel/links.ts"
import { type Devices, hooks as hookTable, refuseExtensions } from "../../common/kernel/measure.ts"
import { describeProgram, programInfo } from "../../common/kernel/programs.ts"
import { indexKey } from "../../common/kernel/records.ts"
import { findLink, message, type NewsReader, openNews, setLink } from "../../common/kernel/rtnetlink.ts"
import type { Maps } from "./associations.ts"
import { forbidForwarding, forwards } from "./forwarding.ts"
import { linkPin, mapPin, type Pins, programPin } from "./pins.ts"

/** One thing that isn't as it was measured. */
export interface Finding {
  /** A hook, a device, a pin, or the configuration. */
  readonly subject: string
  readonly found: string
  readonly wanted: string
}

type Hook = (typeof hookTable)[number]

interface HeldHook {
  readonly hook: Hook
  readonly ifindex: number
  readonly programFd: number
  readonly programId: number
  /** Held open, so that removing its pin doesn't end it. Undefined where programs hang on filters. */
  linkFd: number | undefined
  revision: bigint | undefined
}

export interface IntegrityParts {
  readonly pins: Pins
  readonly devices: Devices
  readonly names: { readonly wire: string; readonly inner: string }
  readonly hooks: Hooks
  readonly maps: Maps
  /** News of filters on the two devices; asked of the kernel where none are given. */
  readonly news?: NewsReader
}

/** With five looks a second: within one. */
const LOOKS_FOR_EXTENSIONS = 4

/** Whatever keeps us from knowing is a finding too: a watch that ends over it would leave the plane unwatched. */
export const asFinding = (error: unknown, subject: string, wanted: string): Finding => ({
  subject: error instanceof KernelError ? error.subject : subject,
  found: (error instanceof KernelError ? error.message : String(error)).slice(0, 256),
  wanted,
})

const inode = (path: string): number | undefined => lstatSync(path, { throwIfNoEntry: false })?.ino

const openHeld = (path: string): number => {
  const fd = openPinned(path)
  if (fd === undefined) throw new KernelError("open plane", path, "MISSING")
  return fd
}

const describe = (attached: ReadonlyArray<Attached>): string =>
  attached
    .map(({ programId, by }) => (programId === 0 ? by : `${describeProgram(programId)} by ${by}`))
    .join(", ") || "nothing"

/** Of a plane that has just been checked: from then on it has to stay as it is. */
export class Integrity {
  readonly #parts: IntegrityParts
  readonly #held: ReadonlyArray<HeldHook>
  /** What is pinned where: a descriptor to pin it again with. */
  readonly #pinned = new Map<string, { readonly fd: number; ino: number | undefined }>()
  readonly #own: Array<number> = []
  /** Tells of filters that are there for a moment only, which have no revision. */
  readonly #news: NewsReader
  #config: Uint8Array | undefined
  #looks = 0
  #closed = false

  constructor(parts: IntegrityParts) {
    this.#parts = parts
    const { wireIfindex, innerIfindex } = parts.devices
    this.#news = parts.news ?? openNews({ filtersOn: [wireIfindex, innerIfindex] })
    try {
      this.#held = hookTable.map((hook) => this.#hold(hook))
      this.#holdPins()
      this.remember()
    } catch (error) {
      this.close()
      throw error
    }
  }

  #open(path: string): number {
    const fd = openHeld(path)
    this.#own.push(fd)
    return fd
  }

  #hold(hook: Hook): HeldHook {
    const { pins, devices, hooks } = this.#parts
    const programFd = this.#open(programPin(pins.live, hook.program))
    return {
      hook,
      ifindex: hook.device === "wire" ? devices.wireIfindex : devices.innerIfindex,
      programFd,
      programId: programInfo(programFd).id,
      linkFd: hooks.kind === "tcx" ? this.#open(linkPin(pins.live, hook.name)) : undefined,
      revision: undefined,
    }
  }

  #holdPins(): void {
    const { pins, maps } = this.#parts
    for (const { hook, programFd } of this.#held)
      this.#pinned.set(programPin(pins.live, hook.program), { fd: programFd, ino: undefined })
    for (const [name, map] of Object.entries(maps))
      if (name !== "tombstones") this.#pinned.set(mapPin(pins.live, name), { fd: map.fd, ino: undefined })
    this.#pinned.set(pins.tombstones, { fd: maps.tombstones.fd, ino: undefined })
    // Data of the programs, which this side has no other use for.
    const directory = join(pins.live, "maps")
    for (const entry of readdirSync(directory)) {
      const path = join(directory, entry)
      if (!this.#pinned.has(path)) this.#pinned.set(path, { fd: this.#open(path), ino: undefined })
    }
    this.#holdLinkPins()
  }

  #holdLinkPins(): void {
    for (const { hook, linkFd } of this.#held)
      if (linkFd !== undefined)
        this.#pinned.set(linkPin(this.#parts.pins.live, hook.name), { fd: linkFd, ino: undefined })
  }

  /** What is there now is how it has to stay. */
  remember(): void {
    for (const held of this.#held) held.revision = hookRevision(held.ifindex, held.hook.direction)
    for (const [path, one] of this.#pinned) one.ino = inode(path)
    this.#news.read()
    this.configured()
  }

  /** The configuration that is there now is ours. */
  configured(): void {
    this.#config = this.#parts.maps.config.lookup(indexKey(0))
  }

  /** What is not as it has to be; empty when the plane is whole. Never throws: what can't be told is a finding. */
  inspect(): ReadonlyArray<Finding> {
    if (this.#closed) return [{ subject: "plane", found: "nobody watches it", wanted: "a watch" }]
    const looks: ReadonlyArray<readonly [string, () => ReadonlyArray<Finding>]> = [
      ["filters", () => this.#inspectNews()],
      ...this.#held.map((held) => [held.hook.name, () => this.#inspectHook(held)] as const),
      ["devices", () => this.#inspectDevices()],
      ["pins", () => this.#inspectPins()],
      ["config", () => this.#inspectConfig()],
      ["programs", () => this.#inspectExtensions()],
    ]
    return looks.flatMap(([subject, look]) => {
      try {
        return look()
      } catch (error) {
        return [asFinding(error, subject, "an answer")]
      }
    })
  }

  #inspectHook({ hook, ifindex, programId, revision }: HeldHook): ReadonlyArray<Finding> {
    const attached = queryHook(ifindex, hook.direction)
    const [first, ...others] = attached
    const finding = (found: string): ReadonlyArray<Finding> => [
      { subject: hook.name, found, wanted: `${hook.program} (id ${programId}) alone` },
    ]
    if (first?.programId !== programId || others.length > 0) return finding(describe(attached))
    const now = hookRevision(ifindex, hook.direction)
    return now === revision ? [] : finding(`changes since revision ${revision}: now it is ${now}`)
  }

  /**
   * Where news was lost the queue was full, and then holds the changes of our devices that filled it, since no others get in; or the
   * kernel had no memory to tell anybody of anything, which is no finding: all that there is now is looked at next.
   */
  #inspectNews(): ReadonlyArray<Finding> {
    const { found, lost } = this.#news.read()
    if (lost) this.#looks = 0
    const { wireIfindex, innerIfindex } = this.#parts.devices
    const kinds: ReadonlyArray<number> = [message.NEWTFILTER, message.DELTFILTER]
    return (["wire", "inner"] as const).flatMap((which) => {
      const ifindex = which === "wire" ? wireIfindex : innerIfindex
      const changes = found.filter((one) => one.ifindex === ifindex && kinds.includes(one.type)).length
      return changes === 0
        ? []
        : [
            {
              subject: this.#parts.names[which],
              found: `${changes} changes of filters`,
              wanted: "no change of filters",
            },
          ]
    })
  }

  #inspectDevices(): ReadonlyArray<Finding> {
    const { devices, names } = this.#parts
    return (["wire", "inner"] as const).flatMap((which): ReadonlyArray<Finding> => {
      const subject = names[which]
      const ifindex = which === "wire" ? devices.wireIfindex : devices.innerIfindex
      const link = findLink(ifindex)
      if (link === undefined)
        return [{ subject, found: `no device with index ${ifindex}`, wanted: "the device" }]
      const findings: Array<Finding> = []
      if (link.xdp !== undefined)
        findings.push({ subject, found: `an XDP program (id ${link.xdp})`, wanted: "none" })
      if (link.name !== subject)
        findings.push({ subject, found: `index ${ifindex} named ${link.name}`, wanted: subject })
      if (forwards(subject)) findings.push({ subject, found: "forwarding on", wanted: "off" })
      return findings
    })
  }

  #inspectPins(): ReadonlyArray<Finding> {
    const { root } = this.#parts.pins
    return [...this.#pinned].flatMap(([path, { ino }]) => {
      const now = inode(path)
      if (now === ino) return []
      const found = now === undefined ? "nothing pinned" : "something else pinned"
      return [{ subject: path.slice(root.length + 1), found, wanted: "what was pinned there" }]
    })
  }

  /** KernelError DIFFERENT when the configuration that is there isn't ours: none may be made of it. */
  expectConfig(): void {
    if (this.#inspectConfig().length > 0) throw new KernelError("move plane", "config", "DIFFERENT")
  }

  #inspectConfig(): ReadonlyArray<Finding> {
    const now = this.#parts.maps.config.lookup(indexKey(0))
    if (now !== undefined && this.#config !== undefined && Buffer.compare(now, this.#config) === 0) return []
    return [{ subject: "config", found: "another configuration", wanted: "the loader's" }]
  }

  /** A program that replaces or traces a function of ours changes no hook. Every program of the machine is asked: not each time. */
  #inspectExtensions(): ReadonlyArray<Finding> {
    return this.#looks++ % LOOKS_FOR_EXTENSIONS === 0 ? this.#extensions() : []
  }

  #extensions(): ReadonlyArray<Finding> {
    try {
      refuseExtensions(this.#held.map(({ programFd }) => programInfo(programFd)))
      return []
    } catch (error) {
      // The next look is to find it as well.
      this.#looks = 0
      return [asFinding(error, "programs", "none that replaces or traces a function of ours")]
    }
  }

  /**
   * Cuts the application off: the internal veth goes down, so that nothing of it reaches a hook that may not be ours. The
   * wire stays up, to tell of it. A device that is gone is cut off already.
   */
  cutOff(): void {
    try {
      setLink(this.#parts.devices.innerIfindex, false)
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== "ENODEV") throw error
    }
  }

  admit(): void {
    setLink(this.#parts.devices.innerIfindex, true)
  }

  /** Puts our parts back where nobody else is in the way; gives what is still amiss. Guards come first. */
  restore(): ReadonlyArray<Finding> {
    // Its descriptors are gone, and may by now be somebody else's.
    if (this.#closed) return this.inspect()
    const extended = this.#extensions()
    if (extended.length > 0) return extended
    const { names } = this.#parts
    const foreign = this.#held.flatMap(({ hook, ifindex, programId }): ReadonlyArray<Finding> => {
      const others = queryHook(ifindex, hook.direction).filter((one) => one.programId !== programId)
      const ours = this.#replacedOurs(others, ifindex, hook.direction)
      const strangers = others.filter((one) => !ours.includes(one))
      return strangers.length === 0
        ? []
        : [{ subject: hook.name, found: describe(strangers), wanted: `${hook.program} alone` }]
    })
    if (foreign.length > 0) return foreign
    for (const name of [names.wire, names.inner]) forbidForwarding(name)
    const order = [...this.#held].sort((a, b) => rank(a.hook) - rank(b.hook))
    for (const held of order) this.#attachAgain(held)
    this.#pinAgain()
    if (this.#config !== undefined) this.#parts.maps.config.update(indexKey(0), this.#config)
    this.remember()
    return this.inspect()
  }

  /** A foreign program on our own link isn't in the way: the link is ours to point back. */
  #replacedOurs(
    others: ReadonlyArray<Attached>,
    ifindex: number,
    direction: Hook["direction"],
  ): ReadonlyArray<Attached> {
    const held = this.#held.find((one) => one.ifindex === ifindex && one.hook.direction === direction)
    if (held?.linkFd === undefined) return []
    const link = linkInfo(held.linkFd)
    if (link.ifindex !== ifindex || link.programId === held.programId) return []
    const found = others.find((one) => one.by === "tcx" && one.programId === link.programId)
    return found === undefined ? [] : [found]
  }

  #attachAgain(held: HeldHook): void {
    const { hook, ifindex, programFd, programId } = held
    const { pins, hooks } = this.#parts
    if (held.linkFd === undefined) {
      if (!queryHook(ifindex, hook.direction).some((one) => one.programId === programId))
        hooks.replace(ifindex, hook.direction, programFd, linkPin(pins.live, hook.name))
      return
    }
    const link = linkInfo(held.linkFd)
    // Somebody detached it: such a link can't be used again.
    if (link.ifindex !== ifindex) {
      const dead = held.linkFd
      held.linkFd = createTcxLink(ifindex, hook.direction, programFd)
      this.#own.splice(this.#own.indexOf(dead), 1, held.linkFd)
      this.#holdLinkPins()
      closeFd(dead)
    } else if (link.programId !== programId) updateTcxLink(held.linkFd, programFd, hook.name)
  }

  #pinAgain(): void {
    for (const [path, { fd, ino }] of this.#pinned) {
      const now = inode(path)
      if (now === ino && now !== undefined) continue
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
      if (now !== undefined) unlinkSync(path)
      pin(fd, path)
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const fd of this.#own.splice(0)) closeFd(fd)
    this.#news.close()
  }
}

/** Egress, where the guards are, before ingress. */
const rank = ({ direction }: Hook): number => (direction === "egress" ? 0 : 1)
