/** Which nodes of a workflow are joined, for the init bench: pairs of indexes, each pair once, the initiator first. */
export const topologies = ["mesh", "chain", "tree", "random-8"] as const
export type Topology = (typeof topologies)[number]

export type Pair = readonly [initiator: number, responder: number]

/** Small, seeded (mulberry32): the same graph in every run. */
const generator = (seed: number): ((below: number) => number) => {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below)
  }
}

const mesh = (nodes: number): Pair[] =>
  Array.from({ length: nodes }, (_, i) =>
    Array.from({ length: nodes - i - 1 }, (_, j): Pair => [i, i + 1 + j]),
  ).flat()

/** A ring, so that all are joined, and random pairs until there are `degree / 2` for each node. */
const random = (nodes: number, degree: number): Pair[] => {
  const below = generator(8)
  const seen = new Set<string>()
  const pairs: Pair[] = []
  const add = (a: number, b: number): void => {
    const [low, high] = [Math.min(a, b), Math.max(a, b)]
    if (low === high || seen.has(`${low} ${high}`)) return
    seen.add(`${low} ${high}`)
    pairs.push([a, b])
  }
  for (let i = 0; i < nodes; i++) add(i, (i + 1) % nodes)
  const wanted = Math.min((nodes * degree) / 2, (nodes * (nodes - 1)) / 2)
  while (pairs.length < wanted) add(below(nodes), below(nodes))
  return pairs
}

export const pairsOf = (topology: Topology, nodes: number): readonly Pair[] => {
  switch (topology) {
    case "mesh":
      return mesh(nodes)
    case "chain":
      return Array.from({ length: nodes - 1 }, (_, i): Pair => [i, i + 1])
    case "tree":
      return Array.from({ length: nodes - 1 }, (_, i): Pair => [Math.floor(i / 2), i + 1])
    case "random-8":
      return random(nodes, 8)
  }
}
