/** swtpm with what a platform's maker would have put into it: persistent keys, NV indices, a certified attestation key. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { join as bytes, handles, passwordAuth, sized, u16, u32 } from "../../services/evidence/tpm/command.ts"
import { connectTpmSocket, TpmDevice, type TpmPublic } from "../../services/evidence/tpm/index.ts"

const installed = (program: string): boolean => spawnSync("which", [program]).status === 0

export const haveSoftwareTpm = installed("swtpm")
export const haveOpenssl = installed("openssl")

export interface SoftwareTpm {
  readonly directory: string
  readonly socket: string
  /** Another swtpm over the same state, after this one was ended. */
  readonly restart: () => Promise<void>
  readonly signal: (signal: "SIGSTOP" | "SIGCONT" | "SIGKILL") => void
  /** Runs with a connection of its own; the TPM serves one at a time. */
  readonly prepare: <A>(act: (device: TpmDevice, tpm: TpmCommands) => Promise<A>) => Promise<A>
  readonly stop: () => Promise<void>
}

export interface TpmCommands {
  /** TPM2_NV_DefineSpace and TPM2_NV_Write: readable by the owner. */
  readonly writeNv: (index: number, content: Uint8Array) => Promise<void>
  /** TPM2_EvictControl: from then on at this handle. */
  readonly persist: (object: number, handle: number) => Promise<void>
  /** TPM2_PCR_Extend, SHA-256 bank. */
  readonly extend: (pcr: number, digest: Uint8Array) => Promise<void>
}

const command = (code: number, given: readonly number[], parameters: Uint8Array): Uint8Array => {
  const auth = passwordAuth(new Uint8Array(0))
  const body = bytes(...given.map(u32), u32(auth.length), auth, parameters)
  return bytes(u16(0x8002), u32(10 + body.length), u32(code), body)
}

/** OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA. */
const nvAttributes = 0x0206_0006
const nvPart = 512

const commandsOf = (send: (command: Uint8Array) => Promise<Uint8Array>): TpmCommands => {
  const run = async (name: string, request: Uint8Array): Promise<void> => {
    const response = Buffer.from(await send(request))
    const code = response.readUInt32BE(6)
    if (code !== 0) throw new Error(`${name}: 0x${code.toString(16)}`)
  }
  return {
    writeNv: async (index, content) => {
      const described = bytes(u32(index), u16(0x000b), u32(nvAttributes), sized(), u16(content.length))
      await run("NV_DefineSpace", command(0x12a, [handles.owner], bytes(sized(), sized(described))))
      for (let at = 0; at < content.length; at += nvPart) {
        const part = bytes(sized(content.subarray(at, at + nvPart)), u16(at))
        await run("NV_Write", command(0x137, [handles.owner, index], part))
      }
    },
    persist: (object, handle) => run("EvictControl", command(0x120, [handles.owner, object], u32(handle))),
    extend: (pcr, digest) => run("PCR_Extend", command(0x182, [pcr], bytes(u32(1), u16(0x000b), digest))),
  }
}

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()))

export const startSoftwareTpm = async (): Promise<SoftwareTpm> => {
  const directory = mkdtempSync(join(tmpdir(), "vouchsafe-swtpm-"))
  const socket = join(directory, "tpm.sock")
  let child: ChildProcess | undefined
  const begin = async () => {
    rmSync(socket, { force: true })
    child = spawn(
      "swtpm",
      [
        "socket",
        "--tpm2",
        ...["--tpmstate", `dir=${directory}`],
        ...["--server", `type=unixio,path=${socket}`],
        ...["--flags", "not-need-init,startup-clear"],
      ],
      { stdio: "ignore" },
    )
    for (let tries = 0; !existsSync(socket) && tries < 400; tries++) await sleep(25)
    if (!existsSync(socket)) throw new Error("swtpm doesn't listen")
  }
  await begin()
  const end = async () => {
    child?.kill("SIGKILL")
    if (child !== undefined) await ended(child)
  }
  return {
    directory,
    socket,
    restart: async () => {
      await end()
      await begin()
    },
    signal: (signal) => void child?.kill(signal),
    prepare: async (act) => {
      const transport = await connectTpmSocket(socket)
      try {
        return await act(new TpmDevice(transport), commandsOf(transport.send))
      } finally {
        await transport.close()
      }
    },
    stop: async () => {
      child?.kill("SIGCONT")
      await end()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export interface CertifiedAk {
  /** DER: leaf, issuer. */
  readonly certificates: readonly Uint8Array[]
  /** The same, in files. */
  readonly leafFile: string
  readonly issuerFile: string
  /** SHA-256 of the issuer's SubjectPublicKeyInfo, hex. */
  readonly issuerDigest: string
}

/** An authority of its own (openssl) that certifies the key as an attestation key. */
export const certifyAk = (directory: string, ak: TpmPublic): CertifiedAk => {
  const at = (name: string) => join(directory, name)
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" })
  writeFileSync(at("ak.pem"), ak.key.object.export({ format: "pem", type: "spki" }))
  writeFileSync(
    at("ak.ext"),
    "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=2.23.133.8.3\n",
  )
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
  openssl(
    ...["req", "-x509", ...curve, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-days", "30"],
    ...["-subj", "/CN=Attestation keys of a test", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
  )
  openssl("req", "-new", ...curve, "-keyout", at("other.key"), "-out", at("ak.csr"), "-subj", "/CN=ak")
  openssl(
    ...["x509", "-req", "-in", at("ak.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial"],
    ...["-force_pubkey", at("ak.pem"), "-extfile", at("ak.ext"), "-days", "30", "-sha256"],
    ...["-outform", "DER", "-out", at("ak.der")],
  )
  openssl("x509", "-in", at("ca.pem"), "-outform", "DER", "-out", at("ca.der"))
  const spki = execFileSync("sh", [
    "-c",
    'openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform der',
    "sh",
    at("ca.pem"),
  ])
  const read = (name: string) => Uint8Array.from(readFileSync(at(name)))
  return {
    certificates: [read("ak.der"), read("ca.der")],
    leafFile: at("ak.der"),
    issuerFile: at("ca.pem"),
    issuerDigest: createHash("sha256").update(spki).digest("hex"),
  }
}
