// The explorer's solver in node: `node solve.mjs FOLDER` reads cases as JSON, and writes what the modules there say.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`).href);
const { bind, flow, iterate, unpack } = await load("solver");
const { eigenvalues, stability } = await load("spectrum");
const graphs = await load("graphs");

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

const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = {
  solved: (asked.solved ?? []).map(solved),
  graphs: (asked.graphs ?? []).map(({ name, agents, seed }) => {
    const edges = graphs.family(name, agents, seed);
    return { edges, W: graphs.metropolisHastings(agents, edges), parts: graphs.components(agents, edges) };
  }),
};
process.stdout.write(JSON.stringify(answers));
