/** TPM_RC (TPM 2.0 Library, part 2, 6.6): a number and where it points, as a name. */

const general: Readonly<Record<number, string>> = {
  256: "INITIALIZE",
  257: "FAILURE",
  259: "SEQUENCE",
  288: "DISABLED",
  289: "EXCLUSIVE",
  292: "AUTH_TYPE",
  293: "AUTH_MISSING",
  294: "POLICY",
  295: "PCR",
  296: "PCR_CHANGED",
  301: "UPGRADE",
  302: "TOO_MANY_CONTEXTS",
  303: "AUTH_UNAVAILABLE",
  304: "REBOOT",
  305: "UNBALANCED",
  322: "COMMAND_SIZE",
  323: "COMMAND_CODE",
  324: "AUTHSIZE",
  325: "AUTH_CONTEXT",
  326: "NV_RANGE",
  327: "NV_SIZE",
  328: "NV_LOCKED",
  329: "NV_AUTHORIZATION",
  330: "NV_UNINITIALIZED",
  331: "NV_SPACE",
  332: "NV_DEFINED",
  336: "BAD_CONTEXT",
  337: "CPHASH",
  338: "PARENT",
  339: "NEEDS_TEST",
  340: "NO_RESULT",
  341: "SENSITIVE",
  2305: "CONTEXT_GAP",
  2306: "OBJECT_MEMORY",
  2307: "SESSION_MEMORY",
  2308: "MEMORY",
  2309: "SESSION_HANDLES",
  2310: "OBJECT_HANDLES",
  2311: "LOCALITY",
  2312: "YIELDED",
  2313: "CANCELED",
  2314: "TESTING",
  2320: "REFERENCE_H0",
  2321: "REFERENCE_H1",
  2322: "REFERENCE_H2",
  2336: "NV_RATE",
  2337: "LOCKOUT",
  2338: "RETRY",
  2339: "NV_UNAVAILABLE",
}

/** By the low six bits. */
const about: Readonly<Record<number, string>> = {
  1: "ASYMMETRIC",
  2: "ATTRIBUTES",
  3: "HASH",
  4: "VALUE",
  5: "HIERARCHY",
  7: "KEY_SIZE",
  8: "MGF",
  9: "MODE",
  10: "TYPE",
  11: "HANDLE",
  12: "KDF",
  13: "RANGE",
  14: "AUTH_FAIL",
  15: "NONCE",
  16: "PP",
  18: "SCHEME",
  21: "SIZE",
  22: "SYMMETRIC",
  23: "TAG",
  24: "SELECTOR",
  26: "INSUFFICIENT",
  27: "SIGNATURE",
  28: "KEY",
  29: "POLICY_FAIL",
  31: "INTEGRITY",
  32: "TICKET",
  33: "RESERVED_BITS",
  34: "BAD_AUTH",
  35: "EXPIRED",
  36: "POLICY_CC",
  37: "BINDING",
  38: "CURVE",
  39: "ECC_POINT",
}

/** `TPM_RC_VALUE of parameter 2 (0x2c4)` */
export const describeResponseCode = (code: number): string => {
  const number = `0x${code.toString(16)}`
  if (code === 0x1e) return `TPM_RC_BAD_TAG (${number})`
  if ((code & 0x80) === 0) return `TPM_RC_${general[code] ?? "unknown"} (${number})`
  const name = `TPM_RC_${about[code & 0x3f] ?? "unknown"}`
  const position = (code >> 8) & 0xf
  if ((code & 0x40) !== 0) return `${name} of parameter ${position} (${number})`
  return `${name} of ${position >= 8 ? `session ${position - 8}` : `handle ${position}`} (${number})`
}

/** TPM_RC_YIELDED, TESTING, RETRY: the command wasn't begun and may be sent again. */
export const isBusy = (code: number): boolean => code === 0x908 || code === 0x90a || code === 0x922
