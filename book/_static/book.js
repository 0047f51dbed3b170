// What only the browser knows: which boxes scroll, what a button opens, and whether MathJax is needed after all.

// A box that scrolls takes the focus, so that the arrow keys reach what lies outside; no other formula does.
function markScrolling() {
  for (const math of document.querySelectorAll("mjx-container:not([display])")) {
    math.classList.remove("wider-than-line");
    const line = math.closest("p, li, td, dd, figcaption, article");
    math.classList.toggle("wider-than-line", line !== null && math.scrollWidth > line.clientWidth);
  }
  for (const box of document.querySelectorAll("mjx-container, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto") {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }
}

// "Toggle hidden content" is what every button is called; the title beside it says which content.
function nameToggles() {
  for (const button of document.querySelectorAll("button.toggle-button")) {
    button.setAttribute("aria-label", button.parentElement.textContent.trim());
  }
}

// On a page without formulas there may be some in a definition that opens. MathJax then replaces what stands here.
if (window.MathJax && !document.querySelector("script[src*='/mathjax/']")) {
  let loaded;
  window.MathJax.typesetPromise = async (nodes) => {
    if (!nodes.some((node) => node.querySelector(".math"))) return;
    loaded ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${document.documentElement.dataset.content_root}_static/mathjax/startup.js`;
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    });
    await loaded;
    await window.MathJax.startup.promise;
    await window.MathJax.typesetPromise(nodes);
  };
}

window.addEventListener("load", async () => {
  nameToggles();
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem"); // docutils' own role is deprecated, and no child of a list
  }
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  markScrolling();
  window.addEventListener("resize", markScrolling);
});
