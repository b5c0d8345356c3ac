import { afterAll, describe, expect, test } from "vitest"
import { KernelError, loadObject } from "../../services/common/kernel/libbpf.ts"
import { checkShape, type MapShape, mapInfo } from "../../services/common/kernel/maps.ts"
import * as records from "../../services/common/kernel/records.ts"
import { makeCompiler, realObject } from "./compile.ts"

const compiler = makeCompiler()
afterAll(() => compiler.remove())

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** One statement of C per record: it fills the struct through its own field names, and its bytes are printed. */
const filled = `
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include "types.h"
static void show(const char *name, const void *at, unsigned long size) {
  printf("%s ", name);
  for (unsigned long i = 0; i < size; i++) printf("%02x", ((const unsigned char *)at)[i]);
  printf("\\n");
}
#define SHOW(name, type, ...) do { struct type x = {__VA_ARGS__}; show(name, &x, sizeof x); } while (0)
#define BYTES4 {0xa0, 0xa1, 0xa2, 0xa3}
int main(void) {
  unsigned char key[32];
  for (int i = 0; i < 32; i++) key[i] = i + 1;
  SHOW("config", vs_config, .layout = 1, .inner_addr = htonl(0x0a010203), .wire_addr = htonl(0xc0000201),
    .bus_addr = htonl(0xc0000202), .bus_port = htons(4222), .esp_port = htons(4500), .wire_ifindex = 7,
    .inner_ifindex = 9, .mark = 0x11223344, .inner_mac = {2, 0, 0, 0, 0, 5});
  SHOW("policy_key", vs_policy_key, .peer = htonl(0x0a000001), .port = htons(443), .protocol = 6, .role = 1);
  SHOW("policy", vs_policy, .edge = 1000, .flags = 0x01020304);
  SHOW("edge", vs_edge, .peer_inner = htonl(0x0a000002), .peer_wire = htonl(0xc0000203), .peer_port = htons(4501),
    .lanes = 16, .mtu = 1500);
  SHOW("lane_key", vs_lane_key, .edge = 5, .lane = 15);
  SHOW("outbound", vs_outbound, .spi = htonl(0x01020304));
  SHOW("sa_key", vs_sa_key, .edge = 6, .spi = htonl(0x01020304));
  struct vs_sa_out out = {.seq = 0, .salt = BYTES4, .flags = 1};
  memcpy(out.key, key, 32);
  show("sa_out", &out, sizeof out);
  struct vs_sa_in in = {.edge = 6, .lane = 3, .salt = BYTES4, .flags = 0};
  memcpy(in.key, key, 32);
  show("sa_in", &in, sizeof in);
  SHOW("window", vs_window, .top = 0);
  SHOW("flow_key", vs_flow_key, .edge = 6, .own_port = htons(80), .peer_port = htons(40000), .protocol = 17, .role = 1);
  SHOW("flow", vs_flow, .seen_ns = 0x0102030405060708ull, .ticket = 0x11121314, .state = 0x21222324);
  SHOW("edge_stats", vs_edge_stats, .sealed_packets = 1, .sealed_bytes = 2, .opened_packets = 3, .opened_bytes = 4);
  struct vs_edge_drops drops = {.packets = {[32] = 0x0102030405060708ull, [33] = 1ull << 32, [63] = 2}};
  show("edge_drops", &drops, sizeof drops);
  struct vs_window w = {.top = 0x0102030405060708ull};
  show("window_top", &w, sizeof w);
}
`

describe("the records are those of the C structs", () => {
  test("byte for byte", () => {
    const lines = compiler.runHost("records", filled).trim().split("\n")
    const inC = Object.fromEntries(lines.map((line) => line.split(" ") as [string, string]))
    const secret = {
      key: Uint8Array.from({ length: 32 }, (_, i) => i + 1),
      salt: Uint8Array.of(0xa0, 0xa1, 0xa2, 0xa3),
    }
    const ours: Record<string, Uint8Array> = {
      config: records.encodeConfig({
        layout: 1,
        innerAddress: 0x0a010203,
        wireAddress: 0xc0000201,
        busAddress: 0xc0000202,
        busPort: 4222,
        espPort: 4500,
        wireIfindex: 7,
        innerIfindex: 9,
        mark: 0x11223344,
        innerMac: Uint8Array.of(2, 0, 0, 0, 0, 5),
      }),
      policy_key: records.encodePolicyKey({ peer: 0x0a000001, port: 443, protocol: 6, role: 1 }),
      policy: records.encodePolicy({ edge: 1000, flags: 0x01020304 }),
      edge: records.encodeEdge({
        peerInner: 0x0a000002,
        peerWire: 0xc0000203,
        peerPort: 4501,
        lanes: 16,
        mtu: 1500,
      }),
      lane_key: records.laneKey(5, 15),
      outbound: records.encodeOutbound(0x01020304),
      sa_key: records.outSaKey(6, 0x01020304),
      sa_out: records.encodeSaOut({ ...secret, esn: true }),
      sa_in: records.encodeSaIn(6, 3, { ...secret, esn: false }),
      window: records.emptyWindow(),
      flow_key: records.encodeFlowKey({ edge: 6, ownPort: 80, peerPort: 40000, protocol: 17, role: 1 }),
      flow: records.encodeFlow({ seenNs: 0x0102030405060708n, ticket: 0x11121314, state: 0x21222324 }),
    }
    for (const [name, bytes] of Object.entries(ours)) expect([name, hex(bytes)]).toEqual([name, inC[name]])
    const of = (name: string): Uint8Array => Uint8Array.from(Buffer.from(inC[name] ?? "", "hex"))
    expect(records.decodeEdgeStats(of("edge_stats"))).toEqual({
      sealedPackets: 1n,
      sealedBytes: 2n,
      openedPackets: 3n,
      openedBytes: 4n,
    })
    const drops = new Map([[63, 5n]])
    records.addEdgeDrops(of("edge_drops"), drops)
    expect(drops).toEqual(
      new Map([
        [63, 7n],
        [32, 0x0102030405060708n],
        [33, 1n << 32n],
      ]),
    )
    expect(records.decodeWindowTop(of("window_top"))).toBe(0x0102030405060708n)
    expect(records.decodeFlow(of("flow"))).toEqual({
      seenNs: 0x0102030405060708n,
      ticket: 0x11121314,
      state: 0x21222324,
    })
  })

  test("the object's maps have the shapes that we expect, and another shape is refused by name", () => {
    using object = loadObject(realObject)
    for (const [name, shape] of Object.entries(records.shapes)) {
      const info = mapInfo(object.mapFd(name))
      checkShape(name, info, shape)
      for (const field of Object.keys(shape) as Array<keyof MapShape>)
        expect(() => checkShape(name, info, { ...shape, [field]: shape[field] + 1 })).toThrow(
          new RegExp(`open map ${name}: INVALID: ${field} is`),
        )
    }
    expect(() => checkShape("x", mapInfo(object.mapFd("config")), records.shapes.edges)).toThrow(KernelError)
  })

  test("maps that hold keys have no type information, so that no pin can be printed with cat", () => {
    using object = loadObject(realObject)
    for (const name of ["sa_out", "sa_in"])
      expect([name, mapInfo(object.mapFd(name)).valueTypeId]).toEqual([name, 0])
  })
})
