// Playing: what a reader moves by a slider moves by itself, in few jumps for who wants no motion.
import { element } from "./charts.js";

// In so many milliseconds, and in so many jumps.
const [PLAYED, JUMPS] = [6000, 10];

export class Player {
  // `from` says at which share of the way to start, `show` shows a share, and `ended` is called when playing is over.
  constructor({ from, show, ended }) {
    Object.assign(this, { from, show, ended, playing: null });
    this.button = element("button", { type: "button", class: "pf-play" }, "Play");
    this.button.addEventListener("click", () => (this.playing ? this.stop() : this.start()));
  }

  start() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const start = performance.now() - PLAYED * this.from();
    this.button.textContent = "Pause";
    const go = (now) => {
      let share = Math.max(0, Math.min(1, (now - start) / PLAYED)); // a frame's time may lie before the click
      if (still) share = Math.floor(share * JUMPS) / JUMPS;
      this.show(share);
      if (share < 1) this.playing = requestAnimationFrame(go);
      else this.stop();
    };
    this.playing = requestAnimationFrame(go);
  }

  stop() {
    if (!this.playing) return;
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.button.textContent = "Play";
    this.ended();
  }
}
