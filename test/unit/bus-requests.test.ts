/** Requests over a wire that answers as the test says: whoever may publish into an inbox may send anything there. */
import { describe, expect, it } from "vitest"
import type { Message } from "../../services/common/bus/nats.ts"
import { Requests } from "../../services/common/bus/requests.ts"

const data = Uint8Array.of(1)
const none = new Uint8Array(0)

const message = (subject: string, bytes: Uint8Array = data, status = 0): Message => ({
  subject,
  reply: undefined,
  data: bytes,
  header: () => undefined,
  status,
})

const wired = () => {
  const sent: Array<{ subject: string; reply: string }> = []
  const heard: Array<{ subject: string; onMessage: (message: Message) => void; onRefused: () => void }> = []
  let broken = false
  const requests = new Requests(
    {
      send: (subject, _data, reply) => {
        if (broken) throw new Error("down")
        sent.push({ subject, reply })
      },
      listen: (subject, onMessage, onRefused) => void heard.push({ subject, onMessage, onRefused }),
      error: (reason, subject) => new Error(`${reason} ${subject}`),
      failed: (cause, subject) => new Error(`${(cause as Error).message} ${subject}`),
    },
    "_INBOX.loader-n1",
  )
  const ask = (subject: string, timeoutMs = 60_000) => {
    const answer = requests.ask(subject, data, timeoutMs)
    const said = answer.then(
      (found) => found.data,
      (error: Error) => error.message,
    )
    return { said, reply: sent.at(-1)?.reply ?? "" }
  }
  const deliver = (one: Message) => heard.at(-1)?.onMessage(one)
  const breakDown = (): void => {
    broken = true
  }
  return { requests, sent, heard, ask, deliver, breakDown }
}

describe("requests", () => {
  it("get the answer to their own reply subject, whatever order answers come in, and only the first", async () => {
    const { ask, deliver, heard, requests, sent } = wired()
    const [one, two] = [ask("a"), ask("b")]
    expect(heard.map(({ subject }) => subject)).toHaveLength(1)
    const base = heard[0]?.subject.slice(0, -1) ?? ""
    expect(base).toMatch(/^_INBOX\.loader-n1\.[A-Za-z0-9_-]{22,64}\.$/)
    for (const { reply } of sent) {
      expect(reply.startsWith(base)).toBe(true)
      expect(reply.slice(base.length)).toMatch(/^[A-Za-z0-9_-]{22,64}$/)
    }
    expect(one.reply).not.toBe(two.reply)
    for (const other of [base, `${base}x`, `${base}constructor`, `${one.reply}.x`]) deliver(message(other))
    deliver(message(two.reply, Uint8Array.of(2)))
    deliver(message(two.reply, Uint8Array.of(3)))
    deliver(message(one.reply, Uint8Array.of(4)))
    expect(await two.said).toEqual(Uint8Array.of(2))
    expect(await one.said).toEqual(Uint8Array.of(4))
    expect(requests.waiting).toBe(0)
  })

  it("fail by kind, once", async () => {
    const { ask, deliver, requests } = wired()
    const late = ask("late", 1)
    expect(await late.said).toBe("Timeout late")
    deliver(message(late.reply))

    const nobody = ask("nobody")
    deliver(message(nobody.reply, none, 503))
    expect(await nobody.said).toBe("NoResponders nobody")
    const odd = ask("odd")
    deliver(message(odd.reply, data, 503))
    expect(await odd.said).toEqual(data)

    const [first, second, other] = [ask("secret"), ask("secret"), ask("other")]
    requests.denied("secret")
    requests.denied("unknown")
    expect(await first.said).toBe("Denied secret")
    requests.end("Closed")
    expect(await second.said).toBe("Closed secret")
    expect(await other.said).toBe("Closed other")
    expect(requests.waiting).toBe(0)
  })

  it("that can't be sent say why, and leave nothing that waits", async () => {
    const { ask, breakDown, requests } = wired()
    breakDown()
    expect(await ask("a").said).toBe("down a")
    expect(requests.waiting).toBe(0)
  })

  it("are all told when the server takes the inbox away; the next one asks for it again", async () => {
    const { ask, deliver, heard } = wired()
    const [one, two] = [ask("a"), ask("b")]
    heard[0]?.onRefused()
    expect([await one.said, await two.said]).toEqual(["Denied a", "Denied b"])
    const three = ask("c")
    expect(heard).toHaveLength(2)
    deliver(message(three.reply))
    expect(await three.said).toEqual(data)
  })
})
