/**
 * The systems that the path bench compares, each between two namespaces on one wire. Whatever carries packets inside has a device
 * MTU of INNER_MTU; the wire's is 1500 (INNER_MTU where packets cross it in plain).
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { ours } from "./ours.ts"
import { INNER_MTU, inside, run, type System } from "./system.ts"

const packageVersion = (name: string) => (): string =>
  run("sh", "-c", `dpkg-query -W -f '\${Version}' ${name} 2>/dev/null || echo absent`).trim()

let pairs = 0

/** Two namespaces with a wire between them: 192.0.2.1 and 192.0.2.2. */
const twoSpaces = (mtu: number) => {
  const names = [1, 2].map((i) => `vsbench-${process.pid}-${pairs}-${i}`)
  pairs += 1
  const [one = "", two = ""] = names
  for (const name of names) run("ip", "netns", "add", name)
  const link = ["link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", two]
  run("ip", "-n", one, ...link)
  for (const [i, name] of names.entries()) {
    run("ip", "-n", name, "addr", "add", `192.0.2.${i + 1}/24`, "dev", "wire0")
    run("ip", "-n", name, "link", "set", "wire0", "mtu", String(mtu), "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
  }
  const children: ChildProcess[] = []
  const directory = mkdtempSync(join(tmpdir(), "vsbench-"))
  const file = (name: string, text: string): string => {
    const path = join(directory, name)
    writeFileSync(path, text, { mode: 0o700 })
    return path
  }
  const start = (i: number, ...args: readonly string[]): void => {
    const [program = "", ...rest] = inside(names[i] ?? "", ...args)
    children.push(spawn(program, rest, { stdio: "ignore", cwd: directory }))
  }
  const at = (i: number, ...args: readonly string[]): string => run(...inside(names[i] ?? "", ...args))
  const close = async (): Promise<void> => {
    for (const child of children) child.kill()
    await sleep(300)
    for (const child of children) if (child.exitCode === null) child.kill("SIGKILL")
    for (const name of names) run("ip", "netns", "del", name)
    rmSync(directory, { recursive: true, force: true })
  }
  return { client: one, server: two, directory, file, start, at, close }
}
type Spaces = ReturnType<typeof twoSpaces>

const plaintext = (tso: boolean): System => ({
  name: `plaintext, TSO ${tso ? "on" : "off"}`,
  version: () => "veth",
  make: async () => {
    const spaces = twoSpaces(INNER_MTU)
    if (!tso)
      for (const i of [0, 1]) spaces.at(i, "ethtool", "-K", "wire0", "tso", "off", "gso", "off", "gro", "off")
    return { ...spaces, target: "192.0.2.2", listen: "192.0.2.2", udp: true }
  },
})

/** A user-space tunnel: `configure` starts both ends, whose devices get 10.99.0.1 and 10.99.0.2. */
const tunnel = (name: string, deb: string, configure: (spaces: Spaces) => Promise<void>): System => ({
  name,
  version: packageVersion(deb),
  make: async () => {
    const spaces = twoSpaces(1500)
    try {
      await configure(spaces)
      await reachable(spaces)
      return { ...spaces, target: "10.99.0.2", listen: "10.99.0.2", udp: true }
    } catch (error) {
      await spaces.close()
      throw error
    }
  },
})

const reachable = async ({ at }: Spaces): Promise<void> => {
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      at(0, "ping", "-c1", "-W1", "10.99.0.2")
      return
    } catch {
      await sleep(250)
    }
  }
  throw new Error("its tunnel doesn't come up")
}

const wireguard = async ({ start, at, file }: Spaces): Promise<void> => {
  const keys = [1, 2].map((i) => {
    const secret = run("wg", "genkey")
    const path = file(`key${i}`, secret)
    return { path, open: execFileSync("wg", ["pubkey"], { input: secret, encoding: "utf8" }).trim() }
  })
  for (const i of [0, 1]) {
    const device = `wgb${process.pid % 100000}x${i}`
    start(i, "wireguard-go", "-f", device)
    await sleep(500)
    const [own, peer] = [keys[i], keys[1 - i]]
    const to = ["peer", peer?.open ?? "", "endpoint", `192.0.2.${2 - i}:51820`, "allowed-ips", "10.99.0.0/24"]
    at(i, "wg", "set", device, "listen-port", "51820", "private-key", own?.path ?? "", ...to)
    at(i, "ip", "addr", "add", `10.99.0.${i + 1}/24`, "dev", device)
    at(i, "ip", "link", "set", device, "mtu", String(INNER_MTU), "up")
  }
}

const nebula = async ({ start, file, directory }: Spaces): Promise<void> => {
  const path = (name: string): string => join(directory, name)
  run("nebula-cert", "ca", "-name", "bench", "-out-crt", path("ca.crt"), "-out-key", path("ca.key"))
  const ca = ["-ca-crt", path("ca.crt"), "-ca-key", path("ca.key")]
  for (const i of [0, 1]) {
    const out = ["-out-crt", path(`n${i}.crt`), "-out-key", path(`n${i}.key`)]
    run("nebula-cert", "sign", ...ca, "-name", `n${i}`, "-ip", `10.99.0.${i + 1}/24`, ...out)
    const config = file(
      `n${i}.yml`,
      `pki: {ca: ${path("ca.crt")}, cert: ${path(`n${i}.crt`)}, key: ${path(`n${i}.key`)}}
cipher: chachapoly
static_host_map: {"10.99.0.${2 - i}": ["192.0.2.${2 - i}:4242"]}
lighthouse: {am_lighthouse: false, hosts: []}
listen: {host: 0.0.0.0, port: 4242}
tun: {dev: neb${i}, mtu: ${INNER_MTU}}
firewall: {outbound: [{port: any, proto: any, host: any}], inbound: [{port: any, proto: any, host: any}]}
`,
    )
    start(i, "nebula", "-config", config)
  }
}

const tinc = async ({ start, file, directory }: Spaces): Promise<void> => {
  for (const i of [0, 1]) {
    mkdirSync(join(directory, `t${i}/hosts`), { recursive: true })
    const to = i === 0 ? "ConnectTo = n1\n" : ""
    file(`t${i}/tinc.conf`, `Name = n${i}\n${to}Interface = tinc${i}\nDeviceType = tun\n`)
    const up = [
      `ip addr add 10.99.0.${i + 1}/24 dev $INTERFACE`,
      `ip link set $INTERFACE mtu ${INNER_MTU} up`,
    ]
    file(`t${i}/tinc-up`, `#!/bin/sh\n${up.join("\n")}\n`)
    file(`t${i}/hosts/n${i}`, `Address = 192.0.2.${i + 1}\nSubnet = 10.99.0.${i + 1}/32\n`)
    execFileSync("tincd", ["-c", join(directory, `t${i}`), "-K2048"], { input: "\n\n", stdio: "pipe" })
  }
  for (const i of [0, 1])
    run("cp", join(directory, `t${i}/hosts/n${i}`), join(directory, `t${1 - i}/hosts/n${i}`))
  for (const i of [1, 0]) {
    const pid = join(directory, `t${i}.pid`)
    start(i, "tincd", "-D", "-c", join(directory, `t${i}`), `--pidfile=${pid}`)
    await sleep(300)
  }
}

/** Self-signed certificates of both ends, and what OpenVPN calls their fingerprints. */
const certificates = ({ directory }: Spaces) =>
  [0, 1].map((i) => {
    const [key, cert] = [join(directory, `${i}.key`), join(directory, `${i}.crt`)]
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run("openssl", "req", "-x509", ...kind, "-subj", `/CN=n${i}`, "-keyout", key, "-out", cert)
    const print = run("openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256")
    return { key, cert, fingerprint: print.trim().split("=")[1] ?? "" }
  })

const openvpn = async (spaces: Spaces): Promise<void> => {
  const ends = certificates(spaces)
  for (const i of [1, 0]) {
    const [own, peer] = [ends[i], ends[1 - i]]
    const tls = i === 1 ? ["--tls-server", "--dh", "none"] : ["--tls-client"]
    const keys = [
      "--cert",
      own?.cert ?? "",
      "--key",
      own?.key ?? "",
      "--peer-fingerprint",
      peer?.fingerprint ?? "",
    ]
    const wire = [
      "--proto",
      "udp",
      "--local",
      `192.0.2.${i + 1}`,
      "--remote",
      `192.0.2.${2 - i}`,
      "--port",
      "1194",
    ]
    const device = ["--dev", `ovpn${i}`, "--dev-type", "tun", "--tun-mtu", String(INNER_MTU), "--mssfix", "0"]
    const addresses = ["--ifconfig", `10.99.0.${i + 1}`, `10.99.0.${2 - i}`]
    const cipher = ["--data-ciphers", "CHACHA20-POLY1305", "--disable-dco"]
    spaces.start(i, "openvpn", ...tls, ...keys, ...wire, ...device, ...addresses, ...cipher)
  }
}

/** TCP only: TLS 1.3 with ChaCha20-Poly1305 between two stunnels, each beside its application. */
const stunnel = (ports: readonly number[]): System => ({
  name: "stunnel pair (TCP)",
  version: packageVersion("stunnel4"),
  make: async () => {
    const spaces = twoSpaces(INNER_MTU)
    const [, server] = certificates(spaces)
    const global = "foreground = yes\nsyslog = no\npid =\nciphersuites = TLS_CHACHA20_POLY1305_SHA256\n"
    const services = [0, 1].map((i) =>
      ports.map((port) =>
        i === 0
          ? `[c${port}]\nclient = yes\naccept = 127.0.0.1:${port}\nconnect = 192.0.2.2:${port + 10000}\n`
          : `[s${port}]\naccept = 192.0.2.2:${port + 10000}\nconnect = 127.0.0.1:${port}\ncert = ${server?.cert}\nkey = ${server?.key}\n`,
      ),
    )
    for (const i of [1, 0])
      spaces.start(i, "stunnel4", spaces.file(`s${i}.conf`, global + (services[i]?.join("") ?? "")))
    await sleep(700)
    return { ...spaces, target: "127.0.0.1", listen: "127.0.0.1", udp: false }
  },
})

export interface Objects {
  readonly ours: string
  /** The same without a cipher. */
  readonly none: string
}

export const systems = (objects: Objects, ports: readonly number[]): readonly System[] => [
  plaintext(true),
  plaintext(false),
  ours("vouchsafe, no cipher", objects.none, false),
  ours("vouchsafe", objects.ours, false),
  ours("vouchsafe, RPS", objects.ours, true),
  tunnel("wireguard-go", "wireguard-go", wireguard),
  tunnel("nebula", "nebula", nebula),
  tunnel("tinc", "tinc", tinc),
  tunnel("openvpn", "openvpn", openvpn),
  stunnel(ports),
]
