// Stored frames, as anywidget mounts them: one slider moves pictures that are drawn from numbers, and computes nothing.
import { colour, drawing, element, lineChart } from "./charts.js";
import { slider, unique } from "./controls.js";
import { Graph } from "./network.js";
import { Player } from "./player.js";

const SPOKEN_AFTER = 500;
const RADIUS = 22;

// What does not change with the place is stored once.
const at = (values, place) => (Array.isArray(values[0]) ? values[place] : values);
const ink = (own) => (own === null ? "currentColor" : colour(own));
const tenth = (value) => value.toFixed(1).replace("-", "\u2212").replace("\u22120.0", "0.0");

// A picture of lines: how one makes it, and how one moves it to a place.
function chart(view) {
  const svg = drawing("svg", { id: unique("chart"), class: "pf-chart", role: "img" });
  const { limits, logarithmic, label, cursor } = view;
  const [start, horizon] = view.span;
  const named = view.series.filter(({ name }) => name);
  const keys = named.map(({ name, look, colour: own }) => element("span", { class: `pf-key pf-key-${look}`, style: `--pf-own:${ink(own)}` }, name));
  const show = (place) => {
    const drawn = (...looks) =>
      view.series
        .filter(({ look }) => looks.includes(look))
        .map(({ x, y, look, colour: own }) => ({ x, y: at(y, place), colour: ink(own), dashed: look === "dashed" }));
    const [bands, lines, points] = [drawn("band"), drawn("line", "dashed"), drawn("points")];
    const move = lineChart(svg, { start, horizon, low: limits[0], high: limits[1], logarithmic, bands, lines, points, label });
    if (cursor) move(cursor[place]);
    else svg.lastElementChild.remove();
  };
  return { svg, show, nodes: [svg, element("p", { class: "pf-legend" }, ...keys)] };
}

// A graph whose peers hold a value each, coloured by its distance from their mean.
function graph(view) {
  const svg = drawing("svg", { class: "pf-network pf-values", role: "img" });
  const peers = new Graph(svg, view.values[0].length, RADIUS);
  peers.link(view.edges, view.W);
  const apart = view.values.map((values) => {
    const mean = values.reduce((sum, value) => sum + value / values.length, 0);
    return values.map((value) => Math.abs(value - mean));
  });
  const largest = Math.max(...apart.flat());
  const show = (place) => {
    peers.paint(apart[place], largest);
    peers.names.forEach((name, q) => (name.textContent = tenth(view.values[place][q])));
  };
  return { svg, show, nodes: [svg] };
}

const KINDS = { chart, graph };

class Panel {
  constructor(model, el) {
    this.model = model;
    this.places = model.get("places");
    this.views = model.get("views");
    this.pictures = this.views.map((view) => KINDS[view.kind](view));
    this.spoken = element("p", { class: "pf-spoken", role: "status" });
    this.slider = slider(model.get("control"), { moved: (place) => this.goTo(place), words: (place) => this.places[place] });
    this.player = new Player({
      from: () => (this.place === this.last ? 0 : this.place / this.last),
      show: (share) => this.show(Math.round(share * this.last)),
      ended: () => this.keep(),
    });
    el.replaceChildren(this.layout());
    this.listen();
    this.show(model.get("place"));
  }

  get last() {
    return this.places.length - 1;
  }

  layout() {
    const card = (view, { nodes }) =>
      element("div", { class: `pf-card pf-is-${view.kind}` }, element("p", { class: "pf-title" }, view.title), ...nodes);
    return element(
      "div",
      { class: "pf-panel", role: "group", "aria-label": this.model.get("name") },
      element("div", { class: "pf-transport pf-single" }, this.player.button, this.slider.node),
      element("div", { class: "pf-views" }, ...this.views.map((view, i) => card(view, this.pictures[i]))),
      this.spoken,
    );
  }

  listen() {
    this.onPlace = () => this.show(this.model.get("place"));
    this.model.on("change:place", this.onPlace);
    this.observer = new ResizeObserver(([entry]) => {
      if (this.width !== entry.contentRect.width) this.show(this.place);
      this.width = entry.contentRect.width;
    });
    this.observer.observe(this.spoken);
  }

  remove() {
    this.player.stop();
    this.observer.disconnect();
    clearTimeout(this.speaking);
    this.model.off("change:place", this.onPlace);
  }

  goTo(place) {
    this.player.stop();
    this.show(place);
    this.keep();
  }

  keep() {
    this.model.set("place", this.place);
    this.model.save_changes();
  }

  show(place) {
    this.place = place;
    this.slider.set(place, this.last);
    this.pictures.forEach(({ svg, show }, i) => {
      show(place);
      svg.setAttribute("aria-label", this.views[i].words[place]);
    });
    clearTimeout(this.speaking);
    const words = this.views.map((view) => view.words[place]).join(" ");
    this.speaking = setTimeout(() => (this.spoken.textContent = words), this.spoken.textContent ? SPOKEN_AFTER : 0);
  }
}

const frames = {
  render({ model, el }) {
    const panel = new Panel(model, el);
    return () => panel.remove();
  },
};

export default frames;
