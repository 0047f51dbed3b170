// The explorer's solver in node: `node solve.mjs FOLDER` reads cases as JSON, and writes what the modules there say.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`).href);
const { bind, flow, iterate, unpack } = await load("solver");
const { eigenvalues, stability } = await load("spectrum");
const graphs = await load("graphs");
const { Network } = await load("network");

function solved({ problem, W, algorithm, objective, stepSize, counts, times }) {
  const system = bind(unpack(problem), W, { algorithm, objective, stepSize });
  const [after, at] = [iterate(system, counts), flow(system, times)];
  const column = (states, name) => states.map((state) => Array.from(state[name]));
  return {
    iteration: column(after, "losses"),
    flow: column(at, "losses"),
    distances: column(after, "distances"),
    disagreement: at.map((state) => state.disagreement),
    eigenvalues: eigenvalues(W),
    ...stability(system),
  };
}

// The corners of every link, as they are drawn.
function drawn(W) {
  const network = Object.assign(Object.create(Network.prototype), { agents: W.length });
  const pairs = W.flatMap((_, q) => W.slice(q + 1).map((_, i) => [q, q + 1 + i]));
  return pairs.map(([q, r]) => network.bar(q, r, W[q][r], W[r][q]).split(" ").map((corner) => corner.split(",").map(Number)));
}

const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = {
  solved: (asked.solved ?? []).map(solved),
  graphs: (asked.graphs ?? []).map(({ name, agents, seed }) => {
    const edges = graphs.family(name, agents, seed);
    return { edges, W: graphs.metropolisHastings(agents, edges), parts: graphs.components(agents, edges) };
  }),
  drawn: (asked.drawn ?? []).map(drawn),
};
process.stdout.write(JSON.stringify(answers));
