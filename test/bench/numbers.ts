/** A number from the command line. @throws RangeError that names the option */
export const wholeOption = (name: string, text: string, least: number, most: number): number => {
  const value = Number(text)
  if (!/^\d{1,9}$/.test(text) || value < least || value > most)
    throw new RangeError(`--${name}: a whole number from ${least} to ${most}, not "${text}"`)
  return value
}
