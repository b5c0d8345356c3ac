import { Config, ConfigProvider, Effect, Schema } from "effect"
import { addressFault, type Family, readIpv4, readIpv6 } from "../../schemas/address.ts"
import { collateralConfig } from "../guest/collateral-cache.ts"
import { guestConfig, pathConfig } from "../guest/config.ts"
import { metricsConfig } from "./metrics.ts"

const device = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_.-]{1,15}$/))
const mac = Schema.String.check(Schema.isPattern(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/))
const pins = Schema.String.check(Schema.isPattern(/^\/sys\/fs\/bpf(\/[A-Za-z0-9_-]{1,64}){1,4}$/))

export const loaderConfig = Config.all({
  guest: guestConfig,
  collateral: collateralConfig,
  metrics: metricsConfig,
  /** How long a lane may be silent before a keepalive goes out (RFC 3948: 20), or 0 where no NAT or firewall is on the way. */
  keepaliveSeconds: Config.schema(
    Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 3_600 })),
    "VOUCHSAFE_KEEPALIVE_SECONDS",
  ).pipe(Config.withDefault(0)),
  /** The compiled BPF object. */
  object: pathConfig("VOUCHSAFE_OBJECT"),
  /** Directory for this node's pins. */
  pins: Config.schema(pins, "VOUCHSAFE_PINS"),
  wireDevice: Config.schema(device, "VOUCHSAFE_WIRE_DEVICE").pipe(Config.withDefault("wire0")),
  innerDevice: Config.schema(device, "VOUCHSAFE_INNER_DEVICE").pipe(Config.withDefault("m1")),
  /** Ethernet address of the applications' end of the internal veth. */
  innerMac: Config.schema(mac, "VOUCHSAFE_INNER_MAC"),
  /** This node's address on the wire, or one of each family with a comma between them. */
  wire: Config.NonEmptyString("VOUCHSAFE_WIRE_ADDRESS").pipe(Config.mapEffect((text) => readWire(text))),
})
export type LoaderConfig = Config.Success<typeof loaderConfig>

/** Addresses of a host, of one family or of both. */
export interface HostAddresses {
  readonly ipv4: number | undefined
  /** 16 bytes. */
  readonly ipv6: Uint8Array | undefined
}

export const familiesOf = ({ ipv4, ipv6 }: HostAddresses): ReadonlyArray<Family> => [
  ...(ipv4 === undefined ? [] : [4 as const]),
  ...(ipv6 === undefined ? [] : [6 as const]),
]

const refuse = (message: string) =>
  Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message })))

const first = <T>(read: (text: string) => T | undefined, texts: ReadonlyArray<string>): T | undefined =>
  texts.map(read).find((address) => address !== undefined)

const readWire = (text: string): Effect.Effect<HostAddresses, Config.ConfigError> => {
  const texts = text.split(",")
  const name = "VOUCHSAFE_WIRE_ADDRESS"
  for (const one of texts) {
    const fault = addressFault(one, [4, 6])
    if (fault !== undefined) return refuse(`${name}: "${one.slice(0, 45)}" ${fault}`)
  }
  const found = { ipv4: first(readIpv4, texts), ipv6: first(readIpv6, texts) }
  if (familiesOf(found).length !== texts.length) return refuse(`${name}: has two addresses of one family`)
  return Effect.succeed(found)
}

/** The server of a URL whose host is an address, IPv6 in brackets (RFC 3986, section 3.2.2). */
const SERVER = /^(?:nats|tls):\/\/(?:(\d[\d.]*)|\[([0-9A-Fa-f:.]+)\]):(\d{1,5})$/

/**
 * Where the guard lets this node's own connection go: the one NATS server of the URL, as an address. A name would need
 * DNS, which the guard doesn't let through.
 */
export const busEndpoint = (
  url: string,
  wire: HostAddresses,
): Effect.Effect<HostAddresses & { readonly port: number }, Config.ConfigError> => {
  const [, four, six, digits = "0"] = SERVER.exec(url) ?? []
  const found = {
    ipv4: four === undefined ? undefined : readIpv4(four),
    ipv6: six === undefined ? undefined : readIpv6(six),
    port: Number(digits),
  }
  const [family] = familiesOf(found)
  if (family === undefined || found.port === 0 || found.port > 65_535)
    return refuse(
      "VOUCHSAFE_NATS_URL: a loader needs one server by address and port, nats://192.0.2.1:4222 or nats://[2001:db8::1]:4222",
    )
  if (!familiesOf(wire).includes(family))
    return refuse(
      `VOUCHSAFE_NATS_URL: the server is reached by IPv${family}, and VOUCHSAFE_WIRE_ADDRESS names no such address`,
    )
  return Effect.succeed(found)
}

export const macBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16))
