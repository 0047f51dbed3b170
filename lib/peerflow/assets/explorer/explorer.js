// The panel, as anywidget mounts it: `render` draws what the model holds, and writes into it what the reader changes.
import { buttons, choice, nearest, slider, stepSizes, unique } from "./controls.js";
import { colour, drawing, element, lineChart, numberLine, shown } from "./charts.js";
import { FAMILIES, family, nameOf, tidy, transmitted } from "./graphs.js";
import { Network } from "./network.js";
import { Player } from "./player.js";
import { largestDistance, lossRange, placeOf, predicted, spectra, trainingFor } from "./prediction.js";
import { ALGORITHMS, unpack } from "./solver.js";
import {
  disagreementWords,
  eigenvalueWords,
  graphWords,
  lossWords,
  numberRows,
  partsWords,
  settingWords,
  stabilityWords,
  stateWords,
  trainingWords,
} from "./words.js";

const SETTINGS = ["mixing", "edges", "algorithm", "objective", "time", "step_size", "horizon"];
const HORIZONS = [10, 20, 50, 100, 200, 500, 1000];
// What the largest eigenvalue of curvature times step may be.
const [GENTLE, STEEP] = [0.01, 10];
const SPOKEN_AFTER = 500;

class Panel {
  constructor(model, el) {
    this.model = model;
    this.seed = 0;
    this.controls();
    this.pictures();
    el.replaceChildren(this.layout());
    this.listen();
    this.takeProblem();
  }

  get settings() {
    return Object.fromEntries(SETTINGS.map((name) => [name, this.model.get(name)]));
  }

  change(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  // --- What there is to turn and to see -----------------------------------------------------------------------------

  controls() {
    const pairs = (names) => names.map((name) => [name, name[0].toUpperCase() + name.slice(1)]);
    const sets = this.model.get("sets");
    this.set = sets && choice("Data and model", sets, (set) => this.change({ set }));
    this.graph = choice("Graph", [...pairs(FAMILIES), ["drawn", "Drawn by hand"]], (name) => this.takeGraph(name));
    this.algorithm = buttons("Algorithm", ALGORITHMS.map((name) => [name, name]), (algorithm) => this.change({ algorithm }));
    this.time = buttons("Time", [["iteration", "Iteration"], ["flow", "Flow"]], (time) => this.change({ time }));
    this.objective = buttons("Objective", pairs(["local", "global"]), (objective) => this.change({ objective }));
    this.horizon = choice("Horizon", HORIZONS.map((steps) => [steps, `${steps} steps`]), (steps) => this.takeHorizon(Number(steps)));
    this.step = slider("Step size", {
      moved: (place) => this.change({ step_size: this.steps[place] }),
      words: (place) => shown(this.steps[place]),
    });
    this.scrub = slider("Step", {
      moved: (place) => this.goTo(place),
      words: (place) => `${shown(this.prediction.times[place])} of ${this.settings.horizon}`,
    });
    this.player = new Player({
      from: () => this.playedFrom(),
      show: (share) => this.showShare(share),
      ended: () => this.change({ position: this.prediction.times[this.place] }),
    });
  }

  pictures() {
    const picture = (name) => drawing("svg", { id: unique(name), class: `pf-${name}`, role: "img" });
    [this.losses, this.apart, this.ofW, this.radius] = ["losses", "apart", "eigenvalues", "radius"].map(picture);
    this.circle = drawing("svg", { class: "pf-network", role: "group", "aria-label": "Peers" });
    this.hint = element("p", { class: "pf-hint", "aria-live": "polite" });
    this.legend = element("p", { class: "pf-legend" });
    this.numbers = element("dl", { class: "pf-numbers" });
    this.parts = element("p", { class: "pf-warning", hidden: "" });
    this.spoken = element("p", { class: "pf-spoken", role: "status" });
  }

  layout() {
    const titled = (title, ...nodes) => element("div", { class: "pf-card" }, element("p", { class: "pf-title" }, title), ...nodes);
    this.radiusTitle = element("p", { class: "pf-title" });
    const turned = [this.set, this.graph, this.algorithm, this.time, this.objective, this.horizon];
    return element(
      "div",
      { class: "pf-panel", role: "group", "aria-label": "Explorer of peer-to-peer training" },
      element("div", { class: "pf-controls" }, ...turned.filter(Boolean).map(({ node }) => node)),
      element("div", { class: "pf-transport" }, this.step.node, this.player.button, this.scrub.node),
      element(
        "div",
        { class: "pf-grid-of-cards" },
        titled("Peers by distance from their mean, links by weight", this.circle, this.hint),
        titled("Loss of every peer", this.losses, this.legend),
        titled("Eigenvalues of W", this.ofW),
        titled("Disagreement", this.apart),
      ),
      element("div", { class: "pf-card pf-stability" }, this.radiusTitle, this.radius),
      this.parts,
      this.numbers,
      this.spoken,
    );
  }

  listen() {
    this.onSetting = () => this.later();
    this.onPosition = () => this.showPosition();
    this.onProblem = () => this.takeProblem();
    for (const name of SETTINGS) this.model.on(`change:${name}`, this.onSetting);
    this.model.on("change:position", this.onPosition);
    for (const name of ["problem", "training"]) this.model.on(`change:${name}`, this.onProblem);
    this.observer = new ResizeObserver(([entry]) => {
      if (this.width !== entry.contentRect.width) this.later();
      this.width = entry.contentRect.width;
    });
    this.observer.observe(this.losses);
  }

  remove() {
    this.player.stop();
    this.observer.disconnect();
    for (const timer of [this.speaking, this.judging]) clearTimeout(timer);
    cancelAnimationFrame(this.waiting);
    for (const name of SETTINGS) this.model.off(`change:${name}`, this.onSetting);
    this.model.off("change:position", this.onPosition);
    for (const name of ["problem", "training"]) this.model.off(`change:${name}`, this.onProblem);
  }

  // --- What the reader does -------------------------------------------------------------------------------------------

  takeProblem() {
    this.player.stop(); // while the peers that it plays are there
    this.packed = this.model.get("problem");
    this.problem = unpack(this.packed);
    this.network = new Network(this.circle, this.problem.agents, {
      toggle: (q, r) => this.toggle(q, r),
      said: (hint) => (this.hint.textContent = hint || "Choose two peers to link them, or to cut their link."),
    });
    this.network.said("");
    this.draw();
  }

  takeGraph(name) {
    if (name === "drawn") return this.later();
    this.seed += name === "random" ? 1 : 0;
    return this.change({ edges: family(name, this.problem.agents, this.seed), mixing: null });
  }

  takeHorizon(horizon) {
    this.change({ horizon, position: horizon });
  }

  toggle(q, r) {
    const link = [Math.min(q, r), Math.max(q, r)];
    const { edges } = this.settings;
    const others = edges.filter(([a, b]) => a !== link[0] || b !== link[1]);
    this.change({ edges: others.length < edges.length ? others : tidy([...edges, link]), mixing: null });
  }

  goTo(place) {
    this.player.stop();
    this.change({ position: this.prediction.times[place] });
  }

  playedFrom() {
    const { times } = this.prediction;
    return this.place === times.length - 1 ? 0 : times[this.place] / times.at(-1);
  }

  showShare(share) {
    const { times } = this.prediction;
    this.place = placeOf(times, share * times.at(-1));
    this.mark();
  }

  // --- What is then to be seen ----------------------------------------------------------------------------------------

  later() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const settings = this.settings;
    this.player.stop();
    this.prediction = predicted(this.problem, settings);
    this.training = trainingFor(this.model.get("training") ?? [], settings, this.problem.agents);
    this.largest = largestDistance(this.prediction.states);
    this.showControls(settings);
    this.showLosses(settings);
    const { parts, W } = this.prediction;
    this.network.link(settings.edges, W);
    this.parts.textContent = partsWords(parts);
    this.parts.hidden = parts.length === 1;
    this.showPosition();
    clearTimeout(this.judging);
    this.judging = setTimeout(() => this.judge(settings)); // after what is drawn is seen
  }

  judge(settings) {
    this.spectra = spectra(this.prediction, settings.time);
    this.showSpectra(settings);
    this.showNumbers(settings);
  }

  showControls(settings) {
    const scale = this.packed.steepest / (settings.objective === "global" ? this.problem.agents : 1);
    this.steps = stepSizes(GENTLE / scale, STEEP / scale);
    this.name = settings.mixing ? undefined : nameOf(this.problem.agents, settings.edges, this.seed);
    this.set?.set(this.model.get("set"));
    this.graph.set(this.name ?? "drawn");
    for (const name of ["algorithm", "time", "objective", "horizon"]) this[name].set(settings[name]);
    this.step.set(nearest(this.steps, settings.step_size), this.steps.length - 1, shown(settings.step_size));
  }

  showLosses({ horizon, time }) {
    const { times, states } = this.prediction;
    const { agents } = this.problem;
    const line = (values, own) => ({ x: times, y: values, colour: own });
    const each = Array.from({ length: agents }, (_, q) => q);
    const bands = this.training ? each.map((q) => ({ x: this.training.steps, y: this.training.of(q), colour: colour(q) })) : [];
    const lines = each.map((q) => line(states.map(({ losses }) => losses[q]), colour(q)));
    const label = time === "flow" ? "time" : "step";
    const range = lossRange(states, this.training, agents);
    this.moveLosses = lineChart(this.losses, { horizon, ...range, logarithmic: true, bands, lines, label });
    this.losses.setAttribute("aria-label", lossWords(states, horizon, this.training));
    const disagreement = states.map((state) => state.disagreement);
    const finite = disagreement.filter((value) => value < 1e12);
    const high = 1.05 * Math.max(...finite, 1e-12);
    this.moveApart = lineChart(this.apart, { horizon, low: 0, high, bands: [], lines: [line(disagreement, "currentColor")], label });
    this.apart.setAttribute("aria-label", disagreementWords(states, horizon));
    this.legend.textContent = trainingWords(this.training, this.model.get("training") ?? []);
  }

  showSpectra({ time }) {
    const { radius, abscissa, ofW } = this.spectra;
    numberLine(this.ofW, { low: -1, high: 1, points: ofW, edge: 1, both: true });
    this.ofW.setAttribute("aria-label", eigenvalueWords(this.spectra));
    this.radiusTitle.textContent = time === "flow" ? "Spectral abscissa of the flow, stable up to 0" : "Spectral radius of the iteration, stable up to 1";
    if (time === "flow") numberLine(this.radius, { low: -0.5, high: 0.5, points: [[abscissa, 0]], edge: 0, both: false });
    else numberLine(this.radius, { low: 0, high: 2, points: [[radius, 0]], edge: 1, both: false });
    this.radius.setAttribute("aria-label", stabilityWords(this.spectra, time));
  }

  showPosition() {
    this.place = placeOf(this.prediction.times, this.model.get("position"));
    this.mark();
  }

  mark() {
    const settings = this.settings;
    const { times, states } = this.prediction;
    const [at, state] = [times[this.place], states[this.place]];
    this.scrub.set(this.place, times.length - 1);
    this.moveLosses(at);
    this.moveApart(at);
    this.network.paint(state.distances, this.largest);
    if (this.spectra) this.showNumbers(settings);
  }

  showNumbers(settings) {
    const { times, states } = this.prediction;
    const [at, state] = [times[this.place], states[this.place]];
    const exchanged = this.packed.parameters ? transmitted(settings.edges, this.packed.parameters, at) : null;
    const rows = numberRows(state, exchanged, this.spectra, settings.time);
    this.numbers.replaceChildren(
      ...rows.map(([name, key, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", { "data-number": key, class: value === "unstable" ? "pf-bad" : "" }, value)),
      ),
    );
    this.speak(state, at, settings);
  }

  speak(state, at, settings) {
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      const setting = `${graphWords(this.name, this.problem.agents, settings.edges)}; ${settingWords(settings)}.`;
      this.spoken.textContent = [setting, stateWords(state, at, settings.time), stabilityWords(this.spectra, settings.time)].join(" ");
    }, SPOKEN_AFTER);
  }
}

const explorer = {
  render({ model, el }) {
    const panel = new Panel(model, el);
    return () => panel.remove();
  },
};

export default explorer;
