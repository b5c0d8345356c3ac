import { verdicts } from "../../../schemas/verdicts.ts"
import type { BpfMap } from "../../common/kernel/maps.ts"
import {
  type Address,
  type DropRecord,
  decodeDrops,
  formatAddress,
  indexKey,
} from "../../common/kernel/records.ts"

/** A sample of what was dropped, for people. */
export interface Drop {
  /** The verdict's name. */
  readonly verdict: string
  /** Index of the edge, where it was known. */
  readonly edge: number | undefined
  /** Protocol, addresses and ports, whose they are, and the SPI where it was known. */
  readonly text: string
}

const names = new Map(verdicts.map((verdict) => [verdict.number, verdict.name]))
const protocols = new Map([
  [1, "icmp"],
  [6, "tcp"],
  [17, "udp"],
  [58, "icmp6"],
  [132, "sctp"],
])
const WITH_PORTS: ReadonlySet<number> = new Set([6, 17, 132])

/** The brackets keep an IPv6 address's last group and a port apart (RFC 3986). */
const endpoint = (address: Address, port: number | undefined): string => {
  const text = formatAddress(address)
  if (port === undefined) return text
  return typeof address === "number" ? `${text}:${port}` : `[${text}]:${port}`
}

const describe = ({ packet, spi }: DropRecord): string => {
  const key = spi === undefined ? "" : ` spi 0x${spi.toString(16).padStart(8, "0")}`
  if (packet === undefined) return `no IP${key}`
  const { inner, source, target, sourcePort, targetPort, protocol } = packet
  const ports = WITH_PORTS.has(protocol)
  const from = endpoint(source, ports ? sourcePort : undefined)
  const to = endpoint(target, ports ? targetPort : undefined)
  const name = protocols.get(protocol) ?? `protocol ${protocol}`
  return `${name} ${from} > ${to}${inner ? " inside" : ""}${key}`
}

/**
 * Reads the programs' samples: each once, at most `most` of them and `mostOfEach` of one verdict at a time; the others of that time are
 * left out, and the counters have them. What was there before the first read is old.
 */
export class DropReader {
  readonly #map: BpfMap
  #seen: ReadonlyArray<bigint>

  constructor(map: BpfMap) {
    this.#map = map
    this.#seen = this.#rings().map((ring) => ring.at(-1)?.number ?? 0n)
  }

  #rings(): ReadonlyArray<ReadonlyArray<DropRecord>> {
    return (this.#map.lookupPerCpu(indexKey(0)) ?? []).map(decodeDrops)
  }

  read(most = 8, mostOfEach = 2): ReadonlyArray<Drop> {
    const rings = this.#rings()
    const fresh = rings.flatMap((ring, cpu) => ring.filter(({ number }) => number > (this.#seen[cpu] ?? 0n)))
    this.#seen = rings.map((ring, cpu) => ring.at(-1)?.number ?? this.#seen[cpu] ?? 0n)
    const taken = new Map<number, number>()
    const chosen = fresh.filter(({ verdict }) => {
      const count = (taken.get(verdict) ?? 0) + 1
      taken.set(verdict, count)
      return count <= mostOfEach
    })
    return chosen.slice(0, most).map((drop) => ({
      verdict: names.get(drop.verdict) ?? `VERDICT_${drop.verdict}`,
      edge: drop.edge,
      text: describe(drop),
    }))
  }
}
