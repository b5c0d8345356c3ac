/** Times on the command line. */
import { UsageError } from "./output.ts"

/** RFC 3339, or a date alone. */
const timeShape = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/

/** @throws UsageError */
export const parseTime = (option: string, text: string): Date => {
  const time = new Date(text)
  if (!timeShape.test(text) || Number.isNaN(time.getTime()) || time.getTime() < 0)
    throw new UsageError(`--${option}: "${text}" is no time such as 2025-06-01T00:00:00Z`)
  return time
}
