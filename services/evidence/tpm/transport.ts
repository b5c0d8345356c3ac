/** How commands reach a TPM: bytes out, bytes in, one command at a time. */
import { type FileHandle, open } from "node:fs/promises"
import { connect, type Socket } from "node:net"
import { TpmError } from "./error.ts"

export interface TpmTransport {
  /** @throws TpmError DEVICE_IO, DEVICE_TIMEOUT, DEVICE_RESPONSE */
  readonly send: (command: Uint8Array) => Promise<Uint8Array>
  readonly close: () => Promise<void>
}

export const responseBytesMost = 4_096
const headerBytes = 10
/** A TPM in hardware may take this long to find an RSA key. */
const defaultTimeoutMs = 60_000

const ioError = (field: string, error: unknown): TpmError => {
  const code = (error as { code?: unknown } | null)?.code
  return new TpmError("DEVICE_IO", field, typeof code === "string" ? code : "an error", "a TPM that answers")
}

const timeoutError = (field: string, ms: number): TpmError =>
  new TpmError("DEVICE_TIMEOUT", field, "no answer", `one within ${ms} ms`)

/**
 * A character device of the kernel. Through its resource manager (`tpmrm0`) objects are this handle's own, and are gone
 * when it is closed.
 * @throws TpmError DEVICE_IO
 */
export const openTpmDevice = async (
  path = "/dev/tpmrm0",
  timeoutMs = defaultTimeoutMs,
): Promise<TpmTransport> => {
  let handle: FileHandle
  try {
    handle = await open(path, "r+")
  } catch (error) {
    throw ioError(path, error)
  }
  let broken: TpmError | undefined
  const exchange = async (command: Uint8Array): Promise<Uint8Array> => {
    await handle.write(command, 0, command.length, null)
    const buffer = Buffer.alloc(responseBytesMost)
    let length = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null)
      length += bytesRead
      const wanted = length < headerBytes ? undefined : buffer.readUInt32BE(2)
      // The kernel gives a response at once; a line between may cut it. What is too long, the caller refuses.
      if (bytesRead === 0 || length === buffer.length || (wanted !== undefined && length >= wanted))
        return Uint8Array.from(buffer.subarray(0, length))
    }
  }
  return {
    send: inTurn(async (command) => {
      if (broken) throw broken
      const timer = deadline(path, timeoutMs)
      try {
        return await Promise.race([exchange(command), timer.passed])
      } catch (error) {
        // What comes later would be taken for the answer to another command.
        broken = error instanceof TpmError ? error : ioError(path, error)
        throw broken
      } finally {
        timer.clear()
      }
    }),
    close: async () => {
      broken ??= new TpmError("DEVICE_IO", path, "closed", "an open device")
      await handle.close()
    },
  }
}

const deadline = (field: string, ms: number) => {
  let timer: NodeJS.Timeout | undefined
  const passed = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(timeoutError(field, ms)), ms)
  })
  return { passed, clear: () => clearTimeout(timer) }
}

/** One after another, whatever the callers do. */
const inTurn = (send: TpmTransport["send"]): TpmTransport["send"] => {
  let last: Promise<unknown> = Promise.resolve()
  return (command) => {
    const mine = last.then(
      () => send(command),
      () => send(command),
    )
    last = mine.catch(() => undefined)
    return mine
  }
}

/**
 * A Unix socket that speaks raw TPM commands, such as a software TPM's (`swtpm socket --server type=unixio,path=...`).
 * @throws TpmError DEVICE_IO, DEVICE_TIMEOUT
 */
export const connectTpmSocket = async (path: string, timeoutMs = defaultTimeoutMs): Promise<TpmTransport> => {
  const socket = await connected(path, timeoutMs)
  let broken: TpmError | undefined
  socket.on("error", (error) => {
    broken ??= ioError(path, error)
  })
  // Between two commands nobody else is told, and a closed socket says nothing more.
  socket.on("close", () => {
    broken ??= new TpmError("DEVICE_IO", path, "the end of the stream", "an open socket")
  })
  return {
    send: inTurn(async (command) => {
      if (broken) throw broken
      try {
        return await exchangeOver(socket, path, command, timeoutMs)
      } catch (error) {
        broken = error instanceof TpmError ? error : ioError(path, error)
        socket.destroy()
        throw broken
      }
    }),
    close: async () => {
      broken ??= new TpmError("DEVICE_IO", path, "closed", "an open socket")
      socket.destroy()
    },
  }
}

const connected = (path: string, timeoutMs: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ path })
    const fail = (error: unknown) => {
      clearTimeout(timer)
      socket.destroy()
      reject(error instanceof TpmError ? error : ioError(path, error))
    }
    const timer = setTimeout(() => fail(timeoutError(path, timeoutMs)), timeoutMs)
    socket.once("error", fail)
    socket.once("connect", () => {
      clearTimeout(timer)
      socket.off("error", fail)
      resolve(socket)
    })
  })

/** A stream has no boundaries: the response's own header says how long it is. */
const exchangeOver = (
  socket: Socket,
  path: string,
  command: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    const finish = (settle: () => void) => {
      clearTimeout(timer)
      socket.off("data", onData)
      socket.off("error", onError)
      socket.off("close", onClose)
      settle()
    }
    const onData = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const wanted = received.length < headerBytes ? undefined : received.readUInt32BE(2)
      const isTooLong = received.length > Math.min(wanted ?? responseBytesMost, responseBytesMost)
      if (isTooLong || (wanted !== undefined && (wanted < headerBytes || wanted > responseBytesMost)))
        finish(() =>
          reject(
            new TpmError(
              "DEVICE_RESPONSE",
              path,
              `a response of ${wanted ?? received.length} bytes`,
              `${headerBytes} to ${responseBytesMost}`,
            ),
          ),
        )
      else if (received.length === wanted) finish(() => resolve(Uint8Array.from(received)))
    }
    const onError = (error: unknown) => finish(() => reject(ioError(path, error)))
    const onClose = () =>
      finish(() => reject(new TpmError("DEVICE_IO", path, "the end of the stream", "a response")))
    const timer = setTimeout(() => finish(() => reject(timeoutError(path, timeoutMs))), timeoutMs)
    socket.on("data", onData)
    socket.on("error", onError)
    socket.on("close", onClose)
    socket.write(command)
  })
