import { Config, ConfigProvider, Effect, Schema } from "effect"
import { Ipv4 } from "../../schemas/address.ts"
import { guestConfig, pathConfig } from "../guest/config.ts"
import { ipv4 } from "./rules.ts"

const device = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_.-]{1,15}$/))
const mac = Schema.String.check(Schema.isPattern(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/))
const pins = Schema.String.check(Schema.isPattern(/^\/sys\/fs\/bpf(\/[A-Za-z0-9_-]{1,64}){1,4}$/))

export const loaderConfig = Config.all({
  guest: guestConfig,
  /** The compiled BPF object. */
  object: pathConfig("VOUCHSAFE_OBJECT"),
  /** Directory for this node's pins. */
  pins: Config.schema(pins, "VOUCHSAFE_PINS"),
  wireDevice: Config.schema(device, "VOUCHSAFE_WIRE_DEVICE").pipe(Config.withDefault("wire0")),
  innerDevice: Config.schema(device, "VOUCHSAFE_INNER_DEVICE").pipe(Config.withDefault("m1")),
  /** Ethernet address of the applications' end of the internal veth. */
  innerMac: Config.schema(mac, "VOUCHSAFE_INNER_MAC"),
  /** This node's address on the wire. */
  wireAddress: Config.schema(Ipv4, "VOUCHSAFE_WIRE_ADDRESS"),
})
export type LoaderConfig = Config.Success<typeof loaderConfig>

/**
 * Where the guard lets this node's own connection go: the one NATS server of the URL, as an address. A name would need
 * DNS, which the guard doesn't let through.
 */
export const busEndpoint = (
  url: string,
): Effect.Effect<{ address: number; port: number }, Config.ConfigError> => {
  const found = /^(?:nats|tls):\/\/(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5})$/.exec(url)
  const [, host = "", port = ""] = found ?? []
  if (found === null || Number(port) > 65_535 || host.split(".").some((part) => Number(part) > 255)) {
    const message =
      "VOUCHSAFE_NATS_URL: a loader needs one server by IPv4 address and port, nats://192.0.2.1:4222"
    return Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message })))
  }
  return Effect.succeed({ address: ipv4(host), port: Number(port) })
}

export const macBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16))
