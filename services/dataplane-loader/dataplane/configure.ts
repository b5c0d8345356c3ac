/** The one record that switches the programs on. */
import { crypto } from "../../common/crypto/index.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import type { Devices } from "../../common/kernel/measure.ts"
import * as records from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"

export interface PlaneConfig {
  /** This node's workflow addresses, IPv4 as a number (10.0.0.1 is 0x0a000001), IPv6 as 16 bytes: one at least. */
  readonly innerAddress?: number | undefined
  readonly innerAddress6?: Uint8Array | undefined
  /** Its addresses on the wire: one at least. Edges go by the family that their peer's wire address has. */
  readonly wireAddress?: number | undefined
  readonly wireAddress6?: Uint8Array | undefined
  /** The bus's addresses: one at least, of a family that the wire has. */
  readonly busAddress?: number | undefined
  readonly busAddress6?: Uint8Array | undefined
  readonly busPort: number
  readonly espPort: number
  /** Ethernet address of the internal veth's near end, 6 bytes. */
  readonly innerMac: Uint8Array
}

const KEY = records.indexKey(0)

/** The mark by which the programs know each other's packets: not guessable by who may set marks on sockets. */
const newMark = (): number => {
  const bytes = crypto.randomBytes(4)
  const mark = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
  // Neither the mark nor its complement, which the programs use too, may be what an unmarked packet has.
  return mark === 0 || mark === 0xffffffff ? newMark() : mark
}

/** The configuration that the programs go by; undefined while there is none, or one of another layout. */
export const readConfig = (maps: Maps): records.ConfigRecord | undefined => {
  const value = maps.config.lookup(KEY)
  const config = value === undefined ? undefined : records.decodeConfig(value)
  return config?.layout === records.VS_LAYOUT ? config : undefined
}

/** Writes a configuration unless it is there already. KernelError INVALID names what is missing. */
export const writeConfig = (maps: Maps, config: PlaneConfig, devices: Devices): void => {
  for (const name of ["busPort", "espPort"] as const)
    if (config[name] === 0) throw new KernelError("configure", name, "INVALID", "is 0")
  for (const name of ["innerAddress", "wireAddress", "busAddress"] as const)
    if ((config[name] ?? 0) === 0 && config[`${name}6`] === undefined)
      throw new KernelError("configure", name, "INVALID", "is 0")
  const before = maps.config.lookup(KEY)
  const mark = before === undefined ? 0 : records.decodeConfig(before).mark
  const record = { ...config, ...devices, mark: mark === 0 ? newMark() : mark }
  const wanted = records.encodeConfig({ ...record, layout: records.VS_LAYOUT })
  // A loader that finds its plane as it should be must not cost a single packet.
  if (before !== undefined && Buffer.compare(before, wanted) === 0) return
  // A running program may see half of an array element that is being written: the layout, which switches the plane on,
  // is written when everything else is in place.
  maps.config.update(KEY, records.encodeConfig({ ...record, layout: 0 }))
  maps.config.update(KEY, wanted)
}
