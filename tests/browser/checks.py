"""What a page must be like in a browser. Each function returns what is wrong, one line per fault."""

from importlib import resources

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# Wider than the window, and no box around it scrolls.
_CUT = """() => {
  const name = e => e.tagName.toLowerCase() + (e.className && e.className.baseVal === undefined ? '.' + e.className : '')
    + ' ' + JSON.stringify(e.textContent.trim().slice(0, 60));
  const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const found = [];
  for (const e of document.querySelectorAll('main mjx-container, main pre, main table, main dt.sig, main img')) {
    const box = e.getBoundingClientRect();
    if (box.width === 0 || getComputedStyle(e).visibility === 'hidden' || e.closest('details:not([open]), .toggle-hidden, mjx-assistive-mml')) continue;
    // What does the element's own content need, and which box would show it?
    const wide = e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0;
    let left = box.left, right = wide && !scrolls(e) ? box.left + e.scrollWidth : box.right;
    if (e.matches('mjx-container')) {
      const math = e.querySelector('mjx-math').getBoundingClientRect();
      const tag = e.querySelector('mjx-labels')?.getBoundingClientRect();
      left = Math.min(math.left, tag ? tag.left : math.left); right = Math.max(math.right, tag ? tag.right : math.right);
    }
    let shown = {left: 0, right: innerWidth}, free = false;
    for (let p = e; p && p !== document.body; p = p.parentElement) {
      const style = getComputedStyle(p), edge = p.getBoundingClientRect();
      if (style.overflowX === 'visible') continue;
      // A box that scrolls shows whatever lies to the right of its start.
      if (scrolls(p)) { if (left < edge.left - p.scrollLeft - 1) found.push('starts left of its box: ' + name(e)); free = true; break; }
      shown = {left: Math.max(shown.left, edge.left), right: Math.min(shown.right, edge.right)};
    }
    if (!free && (left < shown.left - 1 || right > shown.right + 1)) found.push('cut, and nothing scrolls: ' + name(e));
  }
  return found;
}"""

# What sticks out above or below a box that cuts it off.
_CLIPPED = """() => {
  const found = [];
  for (const e of document.querySelectorAll('main div.math')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (box.width === 0 || style.overflowY === 'visible') continue;
    const inner = [...e.querySelectorAll('mjx-c')].map(c => c.getBoundingClientRect()).filter(r => r.height > 0);
    const top = Math.min(...inner.map(r => r.top)), bottom = Math.max(...inner.map(r => r.bottom));
    if (top < box.top - 1 || bottom > box.bottom + 1) found.push('clipped above or below: ' + e.textContent.trim().slice(0, 60));
  }
  return found;
}"""


class Visit:
    """A page in one window, with all that went wrong while it loaded."""

    def __init__(self, page, base):
        self.page, self.faults = page, []
        page.on("console", lambda message: message.type == "error" and self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        page.on("response", lambda answer: answer.status >= 400 and self.faults.append(f"{answer.status}: {answer.url}"))
        page.on("request", lambda request: self._foreign(request.url, base))

    def _foreign(self, url, base):
        if not url.startswith((base, "data:", "blob:", "about:")):
            self.faults.append(f"another host: {url}")

    def open(self, url):
        """Open, and wait until formulas are typeset."""
        self.page.goto(url, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.evaluate("() => document.fonts.ready")
        return self


def layout(page) -> list[str]:
    """Return what leaves the page or is cut off."""
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    faults = [f"the page is {wide} px wider than the window"] if wide > 0 else []
    return faults + page.evaluate(_CUT) + page.evaluate(_CLIPPED)


def accessibility(page) -> list[str]:
    """Return what axe finds: WCAG 2.2 AA and best practice."""
    page.evaluate(AXE)
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})", RULES
    )
    return [
        f"{violation['id']} ({len(violation['nodes'])}): {violation['nodes'][0]['html'][:160]}"
        f" {[check['message'] for check in violation['nodes'][0]['any'][:1]]}"
        for violation in found["violations"]
    ]
