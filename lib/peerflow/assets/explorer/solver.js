// The prediction: gradient flow (14) and iteration of the linearized network, for the squared loss.
//
// As in peerflow.flows, every agent's displacement from the common start is a row of z, in a basis of r directions, and
// one step of the algorithm is z' = W z - B c (H C z + p). Agent q brings its curvature H_q = F_q^T F_q / D_q, its pull
// p_q = F_q^T (f_0 - y) / D_q, its loss at the start and its gain, and nothing else. (B, C) is (I, I) for DGD, (W, I) for
// ATC and (I, W) for CTA; c_q is the step size times the gain, over Q for the global objective.
//
// Nothing here touches a page, so that node runs it as well.

export const ALGORITHMS = ["DGD", "ATC", "CTA"];

// Weights below this, relative to the largest, are left out of a mean over Poisson's distribution.
const NEGLIGIBLE = 1e-14;
// So many of its distributions are kept.
const KEPT = 2000;

// A problem from what peerflow.explorer.pack wrote: agent after agent the rows of H's upper triangle, p, loss and gain.
export function unpack({ agents, rank, precision, steepest, data }) {
  const text = atob(data);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const numbers = precision === 64 ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
  const problem = {
    agents,
    rank,
    steepest,
    curvature: new Float64Array(agents * rank * rank),
    pull: new Float64Array(agents * rank),
    start: new Float64Array(agents),
    gains: new Float64Array(agents),
  };
  let at = 0;
  for (let q = 0; q < agents; q++) {
    const block = problem.curvature.subarray(q * rank * rank, (q + 1) * rank * rank);
    for (let i = 0; i < rank; i++) {
      for (let j = i; j < rank; j++) block[i * rank + j] = block[j * rank + i] = numbers[at++];
    }
    for (let i = 0; i < rank; i++) problem.pull[q * rank + i] = numbers[at++];
    problem.start[q] = numbers[at++];
    problem.gains[q] = numbers[at++];
  }
  return problem;
}

// A problem with its method: W is a list of rows, symmetric or not.
export function bind(problem, W, { algorithm, objective, stepSize }) {
  const scale = stepSize / (objective === "global" ? problem.agents : 1);
  return {
    ...problem,
    scale,
    W: Float64Array.from(W.flat()),
    constants: problem.gains.map((gain) => scale * gain),
    mixesGradient: algorithm === "ATC",
    mixesPoint: algorithm === "CTA",
  };
}

// W times the rows of z, into out.
function mix({ agents, rank, W }, z, out) {
  out.fill(0);
  for (let q = 0; q < agents; q++) {
    for (let p = 0; p < agents; p++) {
      const weight = W[q * agents + p];
      if (weight === 0) continue;
      for (let i = 0; i < rank; i++) out[q * rank + i] += weight * z[p * rank + i];
    }
  }
}

// Every agent's H_q z_q, into out: four rows at a time share what is read of z. No array is made in here; it would take
// longer than the sums.
function bend({ agents, rank, curvature }, z, out) {
  const even = rank - (rank % 4);
  for (let q = 0; q < agents; q++) {
    const own = q * rank;
    for (let i = 0; i < even; i += 4) {
      const first = (own + i) * rank;
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      for (let j = 0, at = first; j < rank; j++, at++) {
        const value = z[own + j];
        a += curvature[at] * value;
        b += curvature[at + rank] * value;
        c += curvature[at + 2 * rank] * value;
        d += curvature[at + 3 * rank] * value;
      }
      out[own + i] = a;
      out[own + i + 1] = b;
      out[own + i + 2] = c;
      out[own + i + 3] = d;
    }
    for (let i = even; i < rank; i++) {
      let sum = 0;
      for (let j = 0; j < rank; j++) sum += curvature[(own + i) * rank + j] * z[own + j];
      out[own + i] = sum;
    }
  }
}

// A function that writes into out what one step makes of z; of a deviation, if it is not driven by the pull. Unless the
// gradient is taken at a mixed point, `step.bent` then holds every H_q z_q.
export function stepper(system, driven = true) {
  const { rank, constants, pull } = system;
  const mixed = new Float64Array(pull.length);
  const gradient = new Float64Array(pull.length);
  const spread = new Float64Array(pull.length);
  const bent = new Float64Array(pull.length);
  const step = (z, out) => {
    mix(system, z, mixed);
    bend(system, system.mixesPoint ? mixed : z, bent);
    for (let i = 0; i < gradient.length; i++) {
      gradient[i] = constants[(i / rank) | 0] * (bent[i] + (driven ? pull[i] : 0));
    }
    if (system.mixesGradient) mix(system, gradient, spread);
    const descent = system.mixesGradient ? spread : gradient;
    for (let i = 0; i < out.length; i++) out[i] = mixed[i] - descent[i];
  };
  return Object.assign(step, { bent });
}

function bentBy(system, z) {
  const bent = new Float64Array(z.length);
  bend(system, z, bent);
  return bent;
}

// Every agent's own loss, its distance from the agents' mean, and the root mean square of these distances.
export function measure(system, z, bent = bentBy(system, z)) {
  const { agents, rank, pull, start } = system;
  const losses = new Float64Array(agents);
  const distances = new Float64Array(agents);
  for (let q = 0; q < agents; q++) {
    losses[q] = start[q];
    for (let i = q * rank; i < (q + 1) * rank; i++) losses[q] += z[i] * (pull[i] + bent[i] / 2);
  }
  for (let i = 0; i < rank; i++) {
    let sum = 0;
    for (let q = 0; q < agents; q++) sum += z[q * rank + i];
    for (let q = 0; q < agents; q++) {
      const away = z[q * rank + i] - sum / agents;
      distances[q] += away * away;
    }
  }
  const disagreement = Math.sqrt(distances.reduce((sum, square) => sum + square, 0) / agents);
  return { losses, distances: distances.map(Math.sqrt), disagreement };
}

// What `measure` says after each of these numbers of steps, which increase.
export function iterate(system, counts) {
  const step = stepper(system);
  let z = new Float64Array(system.pull.length);
  let next = new Float64Array(z.length);
  const found = [];
  for (let taken = 0; found.length < counts.length; taken++) {
    step(z, next);
    const bent = system.mixesPoint ? undefined : step.bent;
    while (counts[found.length] <= taken) found.push(measure(system, z, bent));
    [z, next] = [next, z];
  }
  return found;
}

// What `measure` says of the flow at each of these times, which increase.
//
// The flow is a mean of iterations. With M = I + A and N_t Poisson's count of mean t,
//     e^(tA) = e^(-t) e^(tM) = sum_k P(N_t = k) M^k,    so that    z(t) = E[z after N_t steps]:
// its peers are those of the algorithm, if each step came at a random time. All weights are positive; where the iteration
// itself is stable, nothing cancels. Where it is not, A is taken in so many smaller parts that it is.
export function flow(system, times) {
  const parts = subdivision(system);
  const windows = times.map((time) => poisson(time * parts));
  const last = Math.max(0, ...windows.map(({ first, weights }) => first + weights.length - 1));
  const size = system.pull.length;
  // The latest states: as many as the widest window has.
  const widest = Math.max(4, ...windows.map(({ weights }) => weights.length));
  const kept = Array.from({ length: widest }, () => new Float64Array(size));
  const step = stepper(system);
  const next = new Float64Array(size);
  const found = [];
  for (let k = 0; k <= last; k++) {
    const z = kept[k % kept.length];
    for (let window; (window = windows[found.length]) && window.first + window.weights.length - 1 === k; ) {
      found.push(measure(system, mean(window, kept, size)));
    }
    step(z, next);
    const then = kept[(k + 1) % kept.length];
    for (let i = 0; i < size; i++) then[i] = z[i] + (next[i] - z[i]) / parts;
  }
  return found;
}

// The states of a window times their weights, four at a time.
function mean({ first, weights }, kept, size) {
  const state = new Float64Array(size);
  const at = (k) => kept[(first + Math.min(k, weights.length - 1)) % kept.length];
  const weight = (k) => weights[k] ?? 0;
  for (let k = 0; k < weights.length; k += 4) {
    const a = at(k);
    const b = at(k + 1);
    const c = at(k + 2);
    const d = at(k + 3);
    const u = weight(k);
    const v = weight(k + 1);
    const w = weight(k + 2);
    const x = weight(k + 3);
    for (let i = 0; i < size; i++) state[i] += u * a[i] + v * b[i] + w * c[i] + x * d[i];
  }
  return state;
}

// Parts of a step small enough that none overshoots: W = aI + (1 - a)V with a its smallest diagonal entry and V of norm
// one, and no curvature times its gain exceeds the steepest.
function subdivision({ agents, W, scale, steepest }) {
  let least = 1;
  for (let q = 0; q < agents; q++) least = Math.min(least, W[q * agents + q]);
  // In quarters, so that the same distributions serve again while a reader moves the step size.
  return Math.max(4, Math.ceil(4 * (1 - least + (scale * steepest) / 2))) / 4;
}

const known = new Map();

// Poisson's probabilities around their mode, as far as they matter.
export function poisson(mean) {
  if (!known.has(mean)) {
    if (known.size > KEPT) known.clear();
    known.set(mean, around(mean));
  }
  return known.get(mean);
}

function around(mean) {
  const mode = Math.floor(mean);
  const below = [];
  const above = [];
  for (let k = mode, weight = 1; k > 0 && weight > NEGLIGIBLE; k--) below.push((weight *= k / mean));
  for (let k = mode + 1, weight = 1; weight > NEGLIGIBLE; k++) above.push((weight *= mean / k));
  const weights = Float64Array.from([...below.reverse(), 1, ...above]);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { first: mode - below.length, weights: weights.map((weight) => weight / total) };
}
