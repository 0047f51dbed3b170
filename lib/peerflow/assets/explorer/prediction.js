// All that the panel shows, from what it is set to.
import { components, metropolisHastings } from "./graphs.js";
import { bind, flow, iterate } from "./solver.js";
import { eigenvalues, stability } from "./spectrum.js";

// So many steps are drawn at most. The flow is smooth: after the first steps it needs fewer times.
const [DRAWN, EARLY, SMOOTH] = [400, 20, 50];
// Eigenvalues this near to the limit count as on it.
const ROUNDING = 1e-9;

export function predicted(problem, settings) {
  const { edges, algorithm, objective, step_size: stepSize, time, horizon } = settings;
  const W = settings.mixing ?? metropolisHastings(problem.agents, edges);
  const system = bind(problem, W, { algorithm, objective, stepSize });
  const times = timesOf(time, horizon);
  const states = (time === "flow" ? flow : iterate)(system, times);
  return { W, system, times, states, parts: components(problem.agents, edges) };
}

function timesOf(time, horizon) {
  const stride = Math.ceil(horizon / (time === "flow" ? SMOOTH : DRAWN));
  const dense = time === "flow" ? EARLY : 0;
  const times = [];
  for (let at = 0; at < horizon; at += at < dense ? 1 : stride) times.push(at);
  return [...times, horizon];
}

// The place of the time that is drawn nearest to this one.
export function placeOf(times, position) {
  const after = times.findIndex((time) => time >= position);
  if (after < 1) return after < 0 ? times.length - 1 : 0;
  return position - times[after - 1] < times[after] - position ? after - 1 : after;
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
