// The panel in a page without a kernel: stored problems, and state in the address.
import explorer from "./explorer.js";
import { FAMILIES, family, nameOf, tidy } from "./graphs.js";
import { PageModel } from "./pagemodel.js";
import { ALGORITHMS } from "./solver.js";

const SETS = { moons: "Half moons, a network", mnist: "MNIST 0 and 1, an affine model", digits: "Ten digits, a network" };
// Beside this script.
const FOLDER = new URL(".", document.currentScript.src).href;
const MARK = "#explorer?";
const CHOICES = { algorithm: ALGORITHMS, objective: ["local", "global"], time: ["iteration", "flow"] };

// A stored problem is a script that puts itself under its name: modules and JSON cannot be read from file://.
function load(name) {
  const stored = (window.peerflowStored ??= {});
  if (stored[name]) return Promise.resolve(stored[name]);
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `${FOLDER}${name}.js`;
    script.onload = () => done(stored[name]);
    script.onerror = () => failed(new Error(`the stored problem ${name} cannot be read`));
    document.head.append(script);
  });
}

// What the address says.
const inAddress = () => new URLSearchParams(location.hash.startsWith(MARK) ? location.hash.slice(MARK.length) : "");

// What of it makes sense.
function fromAddress(asked, agents) {
  const found = {};
  for (const [name, allowed] of Object.entries(CHOICES)) if (allowed.includes(asked.get(name))) found[name] = asked.get(name);
  for (const [name, most] of [["step_size", 1e6], ["horizon", 10_000], ["position", 10_000]]) {
    const value = name === "horizon" ? Math.round(Number(asked.get(name))) : Number(asked.get(name));
    if (asked.has(name) && value > 0 && value <= most) found[name] = value;
  }
  const graph = asked.get("graph") ?? "";
  if (FAMILIES.includes(graph)) found.edges = family(graph, agents);
  else if (/^(\d+-\d+(\.\d+-\d+)*)?$/.test(graph) && asked.has("graph")) {
    const edges = tidy(graph.split(".").filter(Boolean).map((edge) => edge.split("-").map(Number)));
    if (edges.every(([, r]) => r < agents)) found.edges = edges;
  }
  return found;
}

function toAddress(model, agents) {
  const edges = model.get("edges");
  const state = { set: model.get("set"), graph: nameOf(agents, edges) ?? edges.map((edge) => edge.join("-")).join(".") };
  for (const name of ["algorithm", "objective", "time", "step_size", "horizon", "position"]) state[name] = model.get(name);
  history.replaceState(null, "", MARK + new URLSearchParams(state));
}

async function mount(el) {
  const asked = inAddress();
  const set = asked.get("set") in SETS ? asked.get("set") : Object.keys(SETS)[0];
  const stored = await load(set);
  const { agents } = stored.problem;
  const start = { edges: family("cycle", agents), algorithm: "DGD", objective: "local", time: "iteration", mixing: null };
  const given = fromAddress(asked, agents);
  const model = new PageModel({ ...start, ...stored, position: given.horizon ?? stored.horizon, set, sets: Object.entries(SETS), ...given });
  model.on("change:set", async () => {
    const { problem, training, step_size: stepSize } = await load(model.get("set"));
    for (const [name, value] of Object.entries({ problem, training, step_size: stepSize })) model.set(name, value);
    model.save_changes();
  });
  model.on("change", () => toAddress(model, agents));
  explorer.render({ model, el });
  el.dataset.ready = "";
}

for (const el of document.querySelectorAll(".peerflow-explorer")) {
  mount(el).catch((error) => {
    el.textContent = `The explorer cannot be shown: ${error.message}.`;
    console.error(error);
  });
}
