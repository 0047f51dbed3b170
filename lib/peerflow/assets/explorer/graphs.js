// Graphs as lists of links [q, r] with q < r, and the mixing matrix of Metropolis and Hastings.

export const FAMILIES = ["cycle", "star", "complete", "path", "torus", "random"];

// The links in order, each once, without loops.
export function tidy(edges) {
  const keys = new Set(edges.filter(([q, r]) => q !== r).map(([q, r]) => `${Math.min(q, r)}-${Math.max(q, r)}`));
  return [...keys].map((key) => key.split("-").map(Number)).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

export function family(name, agents, seed = 0) {
  const all = Array.from({ length: agents }, (_, q) => q);
  switch (name) {
    case "cycle":
      return tidy(all.map((q) => [q, (q + 1) % agents]));
    case "star":
      return tidy(all.slice(1).map((q) => [0, q]));
    case "complete":
      return tidy(all.flatMap((q) => all.slice(q + 1).map((r) => [q, r])));
    case "path":
      return tidy(all.slice(1).map((q) => [q - 1, q]));
    case "torus":
      return torus(agents);
    case "random":
      return random(agents, seed);
    default:
      throw new Error(`no graph is called ${name}`);
  }
}

// What a family calls these links, if one has them; a random graph is known by its seed alone.
export function nameOf(agents, edges, seed) {
  const links = JSON.stringify(edges);
  const candidates = FAMILIES.filter((name) => name !== "random" || seed !== undefined);
  return candidates.find((name) => JSON.stringify(family(name, agents, seed)) === links);
}

// A grid that is as square as the number of agents allows, with its opposite sides joined.
function torus(agents) {
  let rows = Math.floor(Math.sqrt(agents));
  while (agents % rows) rows--;
  const columns = agents / rows;
  const edges = [];
  for (let q = 0; q < agents; q++) {
    const [row, column] = [Math.floor(q / columns), q % columns];
    edges.push([q, row * columns + ((column + 1) % columns)], [q, ((row + 1) % rows) * columns + column]);
  }
  return tidy(edges);
}

// A random tree, which connects all agents, and some more links.
function random(agents, seed) {
  const draw = uniform(seed);
  const edges = [];
  for (let q = 1; q < agents; q++) edges.push([q, Math.floor(draw() * q)]);
  for (let q = 0; q < agents; q++) {
    for (let r = q + 1; r < agents; r++) if (draw() < 1 / agents) edges.push([q, r]);
  }
  return tidy(edges);
}

// Uniform numbers from 0 to 1, the same for the same seed ("mulberry32").
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// The rows of W, as peerflow.mixing.metropolis_hastings has them; unlike there, parts need not be connected.
export function metropolisHastings(agents, edges) {
  const degrees = new Array(agents).fill(0);
  for (const edge of edges) for (const q of edge) degrees[q]++;
  const W = Array.from({ length: agents }, () => new Array(agents).fill(0));
  for (const [q, r] of edges) W[q][r] = W[r][q] = 1 / (1 + Math.max(degrees[q], degrees[r]));
  for (let q = 0; q < agents; q++) W[q][q] = 1 - W[q].reduce((sum, weight) => sum + weight, 0);
  return W;
}

// The parts into which a graph falls, each a list of its agents.
export function components(agents, edges) {
  const part = Array.from({ length: agents }, (_, q) => q);
  for (let round = 0; round < agents; round++) {
    for (const [q, r] of edges) part[q] = part[r] = Math.min(part[q], part[r]);
  }
  const found = new Map();
  part.forEach((name, q) => found.set(name, [...(found.get(name) ?? []), q]));
  return [...found.values()];
}

// How many numbers all agents have sent: in every step each one's parameters, once over every link.
export function transmitted(edges, parameters, steps) {
  return 2 * edges.length * parameters * steps;
}
