/** Vendors' services give certificates as PEM, several in one text: each becomes a piece of its own. */
const most = 64
const block = /-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]{1,98304})-----END \1-----/g

/**
 * @param bytes at most 65,536
 * @returns the DER of each certificate and list where it is PEM; else the bytes as they are
 */
export const splitPem = (bytes: Uint8Array): readonly Uint8Array[] => {
  // A dash: neither DER nor JSON begins with one, and PEM may have a comment in front.
  const text = Buffer.from(bytes).toString("latin1")
  if (bytes[0] === 0x30 || !text.includes("-----BEGIN ")) return [bytes]
  const found = [...text.matchAll(block)].slice(0, most)
  return found.map(([, , base64 = ""]) => Uint8Array.from(Buffer.from(base64, "base64")))
}
