// What the pictures show, in sentences: for who listens, and for who wants the numbers.
import { shown } from "./charts.js";

const NAMES = { cycle: "A cycle", star: "A star", complete: "The complete graph", path: "A path", torus: "A torus" };

const range = (values) => {
  const [low, high] = [shown(Math.min(...values)), shown(Math.max(...values))];
  return low === high ? low : `${low} to ${high}`;
};

const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

export function graphWords(name, agents, edges) {
  const links = `${edges.length} ${edges.length === 1 ? "link" : "links"}`;
  return `${NAMES[name] ?? "A graph"} of ${agents} ${agents === 1 ? "peer" : "peers"}, ${links}`;
}

export function settingWords({ algorithm, objective, time, step_size: stepSize }) {
  const what = time === "flow" ? "gradient flow" : "iteration";
  return `${algorithm}, ${what}, ${objective} objective, step size ${shown(stepSize)}`;
}

export function stateWords({ losses, disagreement }, at, time) {
  const when = time === "flow" ? `At time ${shown(at)}` : `After ${at} ${at === 1 ? "step" : "steps"}`;
  const finite = losses.every(Number.isFinite);
  const loss = finite ? `the losses are ${range([...losses])}` : "the losses are beyond all bounds";
  return `${when} ${loss}, and the disagreement is ${shown(disagreement)}.`;
}

// Rounded, what is below 1 must not look as if it were 1.
function radiusWords(radius) {
  return radius < 1 - 1e-9 && radius.toFixed(4) === "1.0000" ? "just below 1" : radius.toFixed(4);
}

function abscissaWords(abscissa) {
  return Math.abs(abscissa) < 1e-9 ? "0" : shown(abscissa).replace("-", "−");
}

export function stabilityWords({ radius, abscissa, stable }, time) {
  if (time === "flow") {
    const verdict = stable ? "is not above 0: the flow is stable" : "is above 0: the flow grows without bounds";
    return `The spectral abscissa, ${abscissaWords(abscissa)}, ${verdict}.`;
  }
  const verdict = stable ? "the iteration is stable" : "it is above 1, and the iteration grows without bounds";
  return `The spectral radius is ${radiusWords(radius)}: ${verdict}.`;
}

export function partsWords(parts) {
  if (parts.length === 1) return "";
  const groups = parts.map((part) => `{${part.join(", ")}}`);
  return (
    `The graph falls into ${parts.length} parts, ${listed(groups)}: W has the eigenvalue 1 as many times. ` +
    "Each part trains on its own data alone. Peers come to agree within a part only, so disagreement stays, and there is no single fixed point."
  );
}

export function trainingWords(training, runs) {
  if (training) return "Bands: real training. Lines: predicted.";
  if (!runs.length) return "Lines: predicted.";
  const graphs = new Set(runs.map(({ edges }) => JSON.stringify(edges))).size;
  const steps = listed([...new Set(runs.map(({ step_size: stepSize }) => shown(stepSize)))]);
  return `Lines: predicted. Real training is stored for ${graphs} graphs at step size ${steps}, local objective.`;
}

export function lossWords(states, horizon, training) {
  const [first, last] = [states[0].losses, states.at(-1).losses];
  const end = last.every(Number.isFinite) ? range([...last]) : "beyond all bounds";
  const beside = training ? " Real training is drawn as bands behind them." : "";
  return `Predicted losses of ${first.length} peers on a logarithmic axis: ${range([...first])} at 0, ${end} at ${horizon}.${beside}`;
}

export function disagreementWords(states, horizon) {
  const values = states.map(({ disagreement }) => disagreement);
  return `Disagreement: 0 at the start, at most ${shown(Math.max(...values))}, ${shown(values.at(-1))} at ${horizon}.`;
}

export function eigenvalueWords({ ofW, gap }) {
  const complex = ofW.some(([, im]) => Math.abs(im) > 1e-9);
  const values = ofW.map(([re]) => (Math.abs(re) < 5e-4 ? "0" : re.toFixed(2)).replace("-", "−"));
  return `Eigenvalues of W${complex ? ", real parts" : ""}: ${listed(values)}; spectral gap ${gapWords(gap)}.`;
}

const gapWords = (gap) => (gap < 1e-12 ? "0" : shown(gap));

// The numbers of one time: what each is called, its name for tests, and its value.
export function numberRows({ losses, disagreement }, exchanged, { gap, stable, radius, abscissa }, time) {
  const mean = losses.reduce((sum, loss) => sum + loss / losses.length, 0);
  return [
    ["Mean loss", "loss", shown(mean, 4)],
    ["Disagreement", "disagreement", shown(disagreement, 4)],
    ["Numbers sent", "sent", exchanged === null ? "not known" : shown(exchanged)],
    ["Spectral gap of W", "gap", gapWords(gap)],
    time === "flow"
      ? ["Spectral abscissa", "abscissa", abscissaWords(abscissa)]
      : ["Spectral radius", "radius", radiusWords(radius)],
    ["Verdict", "verdict", stable ? "stable" : "unstable"],
  ];
}
