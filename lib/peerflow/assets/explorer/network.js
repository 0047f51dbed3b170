// The graph: peers on a circle, coloured by how far they are from the others. Two that are chosen are linked, or cut.
import { colour, drawing, shown } from "./charts.js";

const SIZE = 260;

export class Network {
  // `toggle` is called with the two peers that were chosen, `said` with a hint at what comes next.
  constructor(svg, agents, { toggle, said }) {
    Object.assign(this, { svg, agents, toggle, said, chosen: null });
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
    const group = drawing(
      "g",
      { class: "pf-peer", role: "button", tabindex: "0", transform: `translate(${x} ${y})`, style: `--pf-own:${colour(q)}` },
      drawing("circle", { class: "pf-target", r: 24 }),
      drawing("circle", { class: "pf-disc", r: 16 }),
      drawing("text", { dy: "0.35em", "text-anchor": "middle" }, String(q)),
    );
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

  link(edges) {
    this.links.replaceChildren(
      ...edges.map(([q, r]) => {
        const [[x1, y1], [x2, y2]] = [this.place(q), this.place(r)];
        return drawing("line", { x1, y1, x2, y2 });
      }),
    );
    this.neighbours = this.peers.map((_, q) => edges.filter((edge) => edge.includes(q)).map(([a, b]) => a + b - q));
  }

  paint(distances, largest) {
    this.peers.forEach((peer, q) => {
      const share = largest > 0 ? Math.sqrt(Math.min(1, distances[q] / largest)) : 0;
      peer.style.setProperty("--pf-share", `${Math.round(100 * (Number.isFinite(share) ? share : 1))}%`);
      const near = this.neighbours[q].length ? `linked to ${this.neighbours[q].join(", ")}` : "without links";
      peer.setAttribute("aria-label", `Peer ${q}, ${near}, ${shown(distances[q])} from the mean`);
      if (!peer.hasAttribute("aria-pressed")) peer.setAttribute("aria-pressed", "false");
    });
  }
}
