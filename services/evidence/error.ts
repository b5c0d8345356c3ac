/** Why evidence was not believed, whoever made it. Each vendor has a class of its own, with codes and a name of its own. */
export abstract class EvidenceError<Code extends string> extends Error {
  readonly code: Code
  /** Dotted path to what was wrong: `report.policy`, `certificates.leaf.notAfter`. */
  readonly field: string
  readonly found: string
  readonly wanted: string

  constructor(code: Code, field: string, found: string, wanted: string) {
    super(`${field}: found ${found}, wanted ${wanted}`)
    this.code = code
    this.field = field
    this.found = found
    this.wanted = wanted
  }
}
