import type { Context } from "./context.ts"
import type { Item } from "./files.ts"
import { type Inspection, UnusableError } from "./inspection.ts"

export const inspectTpm = (_item: Item, _context: Context): Inspection => {
  throw new UnusableError("UNSUPPORTED", "kind", "TPM quotes can't be inspected yet")
}
