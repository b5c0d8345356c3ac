/** TPM 2.0 commands as bytes (part 1, chapter 18; part 3): built here, their responses read with bounds. */
import { Reader } from "../eventlog/reader.ts"
import { TpmError } from "./error.ts"
import { describeResponseCode, isBusy } from "./response-code.ts"
import { hex, truncated } from "./structures.ts"
import { responseBytesMost, type TpmTransport } from "./transport.ts"

export const commands = {
  CreatePrimary: 0x131,
  Startup: 0x144,
  ActivateCredential: 0x147,
  NV_Read: 0x14e,
  PolicySecret: 0x151,
  Quote: 0x158,
  FlushContext: 0x165,
  NV_ReadPublic: 0x169,
  ReadPublic: 0x173,
  StartAuthSession: 0x176,
  GetRandom: 0x17b,
  PCR_Read: 0x17e,
} as const

export type CommandName = keyof typeof commands

export const handles = {
  owner: 0x4000_0001,
  null: 0x4000_0007,
  password: 0x4000_0009,
  endorsement: 0x4000_000b,
} as const

/** Big-endian fields, end to end. */
export const u8 = (value: number): Uint8Array => Uint8Array.of(value)

export const u16 = (value: number): Uint8Array => Uint8Array.of(value >>> 8, value & 0xff)

export const u32 = (value: number): Uint8Array =>
  Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff)

export const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts))

/** A TPM2B. */
export const sized = (...parts: readonly Uint8Array[]): Uint8Array => {
  const content = join(...parts)
  return join(u16(content.length), content)
}

/** TPMS_AUTH_COMMAND: a password, or a policy session that needs no HMAC. */
export const passwordAuth = (password: Uint8Array): Uint8Array =>
  join(u32(handles.password), sized(), u8(0), sized(password))

export const policyAuth = (session: number): Uint8Array => join(u32(session), sized(), u8(0), sized())

export interface Command {
  readonly name: CommandName
  readonly handles?: readonly number[]
  /** One for each handle that needs authorization; present, they make it a command with sessions. */
  readonly auths?: readonly Uint8Array[]
  readonly parameters: Uint8Array
  /** Whether the response begins with a handle. */
  readonly givesHandle?: boolean
}

export interface Response {
  readonly handle: number
  readonly parameters: Reader
}

const tags = { noSessions: 0x8001, sessions: 0x8002 } as const

const encode = ({ name, handles: given = [], auths, parameters }: Command): Uint8Array => {
  const authorization = auths === undefined ? [] : [u32(join(...auths).length), ...auths]
  const body = join(...given.map(u32), ...authorization, parameters)
  const tag = auths === undefined ? tags.noSessions : tags.sessions
  return join(u16(tag), u32(10 + body.length), u32(commands[name]), body)
}

const busyTriesMost = 20

/**
 * @throws TpmError DEVICE_REFUSED with the response code's name; DEVICE_RESPONSE for a response that isn't built as the
 *   TPM specification says; what the transport throws
 */
export const execute = async (transport: TpmTransport, command: Command): Promise<Response> => {
  const bytes = encode(command)
  for (let tries = 1; ; tries++) {
    const response = await transport.send(bytes)
    const code = responseCode(command, response)
    if (code === 0) return decode(command, response)
    if (!isBusy(code) || tries === busyTriesMost)
      throw new TpmError("DEVICE_REFUSED", command.name, describeResponseCode(code), "TPM_RC_SUCCESS")
    await new Promise((resolve) => setTimeout(resolve, 10 * tries))
  }
}

const badResponse = (command: Command, found: string, wanted: string): TpmError =>
  new TpmError("DEVICE_RESPONSE", command.name, found, wanted)

const responseCode = (command: Command, response: Uint8Array): number => {
  if (response.length < 10 || response.length > responseBytesMost)
    throw badResponse(command, `${response.length} bytes`, `10 to ${responseBytesMost} bytes`)
  const header = new Reader(response, false, truncated)
  header.u16("tag")
  const size = header.u32("size")
  if (size !== response.length)
    throw badResponse(command, `a size of ${size} in ${response.length} bytes`, "the size of the response")
  return header.u32("code")
}

const decode = (command: Command, response: Uint8Array): Response => {
  const reader = new Reader(Uint8Array.from(response), false, (field, found, wanted) =>
    badResponse(command, `${field}: ${found}`, wanted),
  )
  const tag = reader.u16("tag")
  const wanted = command.auths === undefined ? tags.noSessions : tags.sessions
  if (tag !== wanted) throw badResponse(command, `tag ${hex(tag)}`, hex(wanted))
  reader.take("header", 8)
  const handle = command.givesHandle ? reader.u32("handle") : 0
  // Behind the parameters of a command with sessions come the sessions' own answers; a password's are empty.
  const length = command.auths === undefined ? reader.left : reader.u32("parameterSize")
  const parameters = new Reader(reader.take("parameters", length), false, (field, found, must) =>
    badResponse(command, `${field}: ${found}`, must),
  )
  return { handle, parameters }
}
