// The graph: peers on a circle, coloured by how far they are from the others.
import { colour, drawing, shown } from "./charts.js";

const SIZE = 260;
// Of a link, in the same units: where it weighs nothing, and what a weight of 1 adds.
const [THINNEST, WIDEST] = [0.6, 10];

// Peers and links, without anything to choose.
export class Graph {
  constructor(svg, agents, radius = 16) {
    Object.assign(this, { svg, agents, radius });
    svg.setAttribute("viewBox", `0 0 ${SIZE} ${SIZE}`);
    this.links = drawing("g", { class: "pf-links" });
    this.peers = Array.from({ length: agents }, (_, q) => this.peer(q));
    svg.replaceChildren(this.links, ...this.peers);
  }

  place(q) {
    const angle = (2 * Math.PI * q) / this.agents - Math.PI / 2;
    const radius = this.agents > 1 ? SIZE / 2 - 34 : 0;
    return [SIZE / 2 + radius * Math.cos(angle), SIZE / 2 + radius * Math.sin(angle)];
  }

  peer(q) {
    const [x, y] = this.place(q);
    this.names ??= [];
    this.names[q] = drawing("text", { dy: "0.35em", "text-anchor": "middle" }, String(q));
    return drawing(
      "g",
      { class: "pf-peer", transform: `translate(${x} ${y})`, style: `--pf-own:${colour(q)}` },
      drawing("circle", { class: "pf-target", r: 24 }),
      drawing("circle", { class: "pf-disc", r: this.radius }),
      this.names[q],
    );
  }

  // At each end a link is as wide as the weight that this peer gives the other: it tapers where W is not symmetric.
  link(edges, W) {
    this.links.replaceChildren(...edges.map(([q, r]) => drawing("polygon", { points: this.bar(q, r, W[q][r], W[r][q]) })));
  }

  bar(q, r, weight, other) {
    const [[x1, y1], [x2, y2]] = [this.place(q), this.place(r)];
    const length = Math.hypot(x2 - x1, y2 - y1);
    const [across, down] = [(y1 - y2) / length / 2, (x2 - x1) / length / 2];
    const [own, far] = [weight, other].map((each) => THINNEST + WIDEST * each);
    const corners = [[x1, y1, own], [x1, y1, -own], [x2, y2, -far], [x2, y2, far]];
    return corners.map(([x, y, width]) => `${(x + across * width).toFixed(1)},${(y + down * width).toFixed(1)}`).join(" ");
  }

  paint(distances, largest) {
    this.peers.forEach((peer, q) => {
      const share = largest > 0 ? Math.sqrt(Math.min(1, distances[q] / largest)) : 0;
      peer.style.setProperty("--pf-share", `${Math.round(100 * (Number.isFinite(share) ? share : 1))}%`);
    });
  }
}

// Two peers that are chosen are linked, or cut.
export class Network extends Graph {
  // `toggle` is called with the two peers that were chosen, `said` with a hint at what comes next.
  constructor(svg, agents, { toggle, said }) {
    super(svg, agents);
    Object.assign(this, { toggle, said, chosen: null });
  }

  peer(q) {
    const group = super.peer(q);
    for (const [name, value] of [["role", "button"], ["tabindex", "0"], ["aria-pressed", "false"]]) group.setAttribute(name, value);
    group.addEventListener("click", () => this.choose(q));
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") this.choose(q);
      else if (event.key === "Escape") this.choose(null);
      else if (event.key === "ArrowRight" || event.key === "ArrowDown") this.peers[(q + 1) % this.agents].focus();
      else if (event.key === "ArrowLeft" || event.key === "ArrowUp") this.peers.at(q - 1).focus();
      else return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab has its own use for these keys
    });
    return group;
  }

  choose(q) {
    const first = this.chosen;
    this.chosen = q === null || q === first || first !== null ? null : q;
    this.peers.forEach((peer, r) => peer.setAttribute("aria-pressed", String(r === this.chosen)));
    if (first !== null && q !== null && q !== first) this.toggle(first, q);
    this.said(this.chosen === null ? "" : `Peer ${q} is chosen. Choose another to link it, or to cut the link.`);
  }

  link(edges, W) {
    super.link(edges, W);
    this.heard = this.peers.map((_, q) => {
      const others = edges.filter((edge) => edge.includes(q)).map(([a, b]) => a + b - q);
      const listed = others.map((r) => `${r} (${shown(W[q][r])})`).join(", ");
      return `${listed ? `linked to ${listed}` : "without links"}, own weight ${shown(W[q][q])}`;
    });
  }

  paint(distances, largest) {
    super.paint(distances, largest);
    this.peers.forEach((peer, q) => {
      peer.setAttribute("aria-label", `Peer ${q}, ${this.heard[q]}, ${shown(distances[q])} from the mean`);
    });
  }
}
