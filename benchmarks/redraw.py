"""Does the explorer follow a reader's hand: is it drawn anew within a frame of 16 ms?

    python benchmarks/redraw.py [PAGES]

Eight peers and 200 steps, every stored problem, every algorithm, both kinds of time, in Chromium on the built book
(``make html``; ``_build/html`` if no other folder is named). A redraw is what the browser does for a move of the step
size: prediction, pictures and layout. It prints milliseconds, the median and the 9th decile of 50 moves.
"""

import sys
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from conftest import CHROMIUM  # noqa: E402
from serving import serve  # noqa: E402

ALGORITHMS = ("DGD", "ATC", "CTA")
# Every frame's own work, and the layout that it asks for.
TIMED = """{
  const frame = window.requestAnimationFrame.bind(window);
  window.redraws = [];
  window.requestAnimationFrame = (draw) => frame((now) => {
    const start = performance.now();
    draw(now);
    document.body?.offsetHeight;
    window.redraws.push(performance.now() - start);
  });
}"""
MOVE = """async (moves) => {
  const slider = document.querySelector(".peerflow-explorer input[type=range]");
  const [middle, found] = [Number(slider.value), []];
  for (let k = 0; k < moves; k++) {
    slider.value = middle - 6 + (k % 7) + (k % 2);
    window.redraws.length = 0;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => setTimeout(done, 60));
    found.push(Math.max(...window.redraws));
  }
  return found;
}"""


def measured(browser, address):
    """Return the milliseconds of 50 redraws, after ten for the compiler."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.add_init_script(TIMED)
    page.goto(address)
    page.wait_for_selector(".peerflow-explorer[data-ready]")
    page.wait_for_timeout(800)
    taken = page.evaluate(MOVE, 60)[10:]
    page.close()
    return taken


def main(folder=ROOT / "_build" / "html"):
    server = serve(folder)
    base = f"http://127.0.0.1:{server.server_port}/book/explore.html#explorer?"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in ("moons", "mnist", "digits"):
            for time in ("iteration", "flow"):
                for algorithm in ALGORITHMS:
                    taken = measured(browser, f"{base}set={name}&time={time}&algorithm={algorithm}")
                    middle, late = np.quantile(taken, [0.5, 0.9])
                    print(f"{name:7} {time:9} {algorithm}: {middle:4.1f} ms, 9th decile {late:4.1f} ms", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
