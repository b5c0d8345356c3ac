/** Strangers' words on screens and in logs: no line breaks, no commands to a terminal, no writing that runs backwards. */
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

/** Such characters become their numbers: `\u{1b}`. */
export const plainLine = (text: string): string =>
  text.replace(unsafe, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`)

const escaped = (c: string): string =>
  Array.from({ length: c.length }, (_, i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`).join("")

/** The same for JSON, which goes on saying what it said. Line breaks between its parts stay; none is inside of a text. */
export const plainJson = (json: string): string => json.replace(unsafe, (c) => (c === "\n" ? c : escaped(c)))
