// All that the panel shows, from what it is set to.
import { components, metropolisHastings } from "./graphs.js";
import { bind, flow, iterate } from "./solver.js";
import { eigenvalues, stability } from "./spectrum.js";

// So many times are drawn at most.
const DRAWN = 400;
// Eigenvalues this near to the limit count as on it.
const ROUNDING = 1e-9;

export function predicted(problem, settings) {
  const { edges, algorithm, objective, step_size: stepSize, time, horizon } = settings;
  const W = settings.mixing ?? metropolisHastings(problem.agents, edges);
  const system = bind(problem, W, { algorithm, objective, stepSize });
  const stride = Math.ceil(horizon / DRAWN);
  const times = [];
  for (let at = 0; at < horizon; at += stride) times.push(at);
  times.push(horizon);
  const states = (time === "flow" ? flow : iterate)(system, times);
  return { W, system, times, states, parts: components(problem.agents, edges) };
}

// The place of the time that is drawn nearest to this one.
export function placeOf(times, position) {
  const stride = times.length > 2 ? times[1] - times[0] : 1;
  return Math.min(times.length - 1, position >= times.at(-1) ? times.length - 1 : Math.round(position / stride));
}

export function spectra({ W, system }, time) {
  const { radius, abscissa } = stability(system);
  const ofW = eigenvalues(W);
  const second = Math.max(0, ...ofW.slice(1).map(([re, im]) => Math.hypot(re, im)));
  const stable = time === "flow" ? abscissa <= ROUNDING : radius <= 1 + ROUNDING;
  return { radius, abscissa, ofW, gap: 1 - second, stable };
}

// The real training that was stored for these settings, if there is one.
export function trainingFor(runs, { mixing, edges, algorithm, objective, step_size: stepSize }, agents) {
  const links = JSON.stringify(edges);
  const run = runs.find(
    (each) =>
      !mixing &&
      each.algorithm === algorithm &&
      each.objective === objective &&
      Math.abs(each.step_size / stepSize - 1) < 1e-9 &&
      JSON.stringify(each.edges) === links,
  );
  if (!run) return null;
  const bytes = Uint8Array.from(atob(run.losses), (letter) => letter.charCodeAt(0));
  const losses = new Float32Array(bytes.buffer);
  return { steps: run.steps, of: (q) => run.steps.map((_, i) => losses[i * agents + q]) };
}

// The axis of the losses: all of them, but not what grows beyond ten times the largest at the start.
export function lossRange(states, training, agents) {
  let [low, high] = [Infinity, 0];
  const include = (value) => {
    if (value > 0 && Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  };
  for (const { losses } of states) losses.forEach(include);
  if (training) for (let q = 0; q < agents; q++) training.of(q).forEach(include);
  const start = Math.max(...states[0].losses);
  high = Math.min(high, 10 * start);
  low = Math.max(Math.min(low, high / 1.5), start * 1e-8);
  return { low: low / 1.1, high: high * 1.1 };
}

// How far peers are apart at most, among finite numbers; where they run away, at their start's own scale.
export function largestDistance(states) {
  let largest = 0;
  for (const { distances } of states) for (const each of distances) if (each > largest && each < 1e12) largest = each;
  return largest;
}
