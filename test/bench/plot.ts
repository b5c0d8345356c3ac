/** Plots as SVG text, without a library: bars in groups, from zero, with the value over each. */
export interface Bars {
  readonly title: string
  readonly unit: string
  /** The groups along the axis. */
  readonly groups: readonly string[]
  /** One value for each group; undefined leaves a gap. */
  readonly series: readonly { readonly name: string; readonly values: readonly (number | undefined)[] }[]
}

const colours = ["#1f5fa8", "#7fb0dd", "#c25b12", "#f0b27a", "#5b7f3a", "#b3c99c", "#6b4c8a", "#999999"]
const [bar, gap, left, top, height] = [30, 24, 64, 64, 300]

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;")

/** 1, 2 or 5 times a power of ten: about five of them up to `most`. */
const stepFor = (most: number): number => {
  const rough = most / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  return ([1, 2, 5].find((times) => times * power >= rough) ?? 10) * power
}

const label = (value: number): string =>
  value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)))

export const barPlot = ({ title, unit, groups, series }: Bars): string => {
  const most = Math.max(
    1e-9,
    ...series.flatMap(({ values }) => values.filter((value) => value !== undefined)),
  )
  const step = stepFor(most)
  const full = Math.ceil(most / step) * step
  const y = (value: number): number => top + height * (1 - value / full)
  const groupWidth = series.length * bar + gap
  const width = left + groups.length * groupWidth + 16
  const text = (x: number, at: number, what: string, more = ""): string =>
    `<text x="${x.toFixed(1)}" y="${at.toFixed(1)}" ${more}>${escaped(what)}</text>`
  const grid = Array.from({ length: Math.round(full / step) + 1 }, (_, i) => i * step).flatMap((value) => [
    `<line x1="${left}" x2="${width - 16}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#ddd"/>`,
    text(left - 6, y(value) + 4, label(value), 'text-anchor="end"'),
  ])
  const bars = series.flatMap(({ values }, s) =>
    groups.flatMap((_, g) => {
      const value = values[g]
      if (value === undefined) return []
      const x = left + gap / 2 + g * groupWidth + s * bar
      const size = (height * value) / full
      const colour = colours[s % colours.length]
      return [
        `<rect x="${x}" y="${y(value).toFixed(1)}" width="${bar - 3}" height="${size.toFixed(1)}" fill="${colour}"/>`,
        text(x + bar / 2 - 1.5, y(value) - 3, label(value), 'text-anchor="middle" font-size="9"'),
      ]
    }),
  )
  const names = groups.map((name, g) =>
    text(left + (g + 0.5) * groupWidth, top + height + 18, name, 'text-anchor="middle"'),
  )
  let at = left
  const legend = series.flatMap(({ name }, s) => {
    const x = at
    at += 24 + name.length * 7
    return [
      `<rect x="${x}" y="36" width="12" height="12" fill="${colours[s % colours.length]}"/>`,
      text(x + 16, 46, name),
    ]
  })
  const total = Math.max(width, at)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${total}" height="${top + height + 32}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(left, 22, `${title} (${unit})`, 'font-size="15"'),
    ...legend,
    ...grid,
    ...bars,
    ...names,
    "</svg>",
    "",
  ].join("\n")
}
