/** Which lines two texts don't share, in order: what an operator looks at before signing. */

const WINDOW_MAX = 2_000

/** `- line` for what goes, `+ line` for what comes. */
export const diffLines = (before: string, after: string): ReadonlyArray<string> => {
  const [a, b] = [before.split("\n"), after.split("\n")]
  let from = 0
  while (from < a.length && from < b.length && a[from] === b[from]) from++
  let [endA, endB] = [a.length, b.length]
  while (endA > from && endB > from && a[endA - 1] === b[endB - 1]) {
    endA--
    endB--
  }
  const [gone, come] = [a.slice(from, endA), b.slice(from, endB)]
  // Of what is too long to compare line by line, all goes and all comes.
  if (gone.length > WINDOW_MAX || come.length > WINDOW_MAX)
    return [...gone.map((line) => `- ${line}`), ...come.map((line) => `+ ${line}`)]
  return walk(gone, come)
}

/** The longest common subsequence, by the table of lengths of those of the rests. */
const walk = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): ReadonlyArray<string> => {
  const width = b.length + 1
  const lengths = new Uint32Array((a.length + 1) * width)
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  const lines: Array<string> = []
  for (let [i, j] = [0, 0]; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      i++
      j++
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) lines.push(`- ${a[i++]}`)
    else lines.push(`+ ${b[j++]}`)
  }
  return lines
}
