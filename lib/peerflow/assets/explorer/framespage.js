// Stored frames in a page without a kernel: each stands beside its place, as JSON.
import frames from "./frames.js";
import { PageModel } from "./pagemodel.js";

for (const el of document.querySelectorAll(".peerflow-frames")) {
  frames.render({ model: new PageModel(JSON.parse(el.querySelector("script").textContent)), el });
  el.dataset.ready = "";
}
