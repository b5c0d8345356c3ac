/** What a plane of one edge needs before it carries anything: configured in the namespace of the test, one key each way. */
import { bootNow } from "../../services/common/kernel/clock.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import type { NewAssociation, Plane } from "../../services/dataplane-loader/dataplane/plane.ts"

/** From within the namespace. */
export const configureSmall = (plane: Plane): void =>
  plane.configure({
    innerAddress: parseIpv4("10.77.0.1"),
    wireAddress: parseIpv4("192.0.2.1"),
    busAddress: parseIpv4("192.0.2.200"),
    busPort: 4222,
    espPort: 4500,
    innerMac: macOf("m0"),
  })

export const smallEdges = () => ({
  edges: [
    {
      index: 0,
      id: new Uint8Array(8).fill(1),
      peerInner: parseIpv4("10.77.0.2"),
      peerWire: parseIpv4("192.0.2.2"),
      peerPort: 4500,
      lanes: 1,
      mtu: 1500,
    },
  ],
  policies: [],
})

export const smallKey = (n = 1n): NewAssociation => ({
  edge: 0,
  lane: 0,
  spi: 0x1000 + Number(n),
  epoch: { term: 1n, n },
  deadline: bootNow() + 60_000_000_000n,
  key: new Uint8Array(32).fill(7),
  salt: new Uint8Array(4),
  esn: true,
})

export const installSmall = (plane: Plane): void => {
  plane.setEdges(smallEdges())
  plane.installInbound(smallKey())
  plane.installOutbound(smallKey())
}
