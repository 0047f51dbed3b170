"""What a page must be like in a browser. Each function returns what is wrong, one line per fault."""

import contextlib
from importlib import resources

from playwright.sync_api import TimeoutError as TookTooLong

# How long a page may take to answer, in milliseconds, on a machine that is busy with others.
PATIENCE = 10_000
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
    // The content's own edges; a formula fills less than its box.
    let left = box.left, right = scrolls(e) ? box.right : Math.max(box.right, box.left + e.scrollWidth);
    if (e.matches('mjx-container')) {
      const parts = [...e.querySelectorAll('mjx-math, mjx-labels')].map(part => part.getBoundingClientRect());
      left = Math.min(...parts.map(part => part.left)); right = Math.max(...parts.map(part => part.right));
    }
    for (let p = e; p && p !== document.body; p = p.parentElement) {
      if (getComputedStyle(p).overflowX === 'visible') continue;
      const edge = p.getBoundingClientRect();
      // Nothing scrolls to what lies left of the start; to what lies right of it, a box that scrolls does.
      if (left < edge.left - p.scrollLeft - 1) found.push('its left side is lost: ' + name(e));
      else if (!scrolls(p) && right > edge.right + 1) found.push('cut, and nothing scrolls: ' + name(e));
      left = edge.left; right = edge.right;
    }
    if (left < -1 || right > innerWidth + 1) found.push('outside of the window: ' + name(e));
  }
  return found;
}"""

# What sticks out above or below a box that cuts it off.
_CLIPPED = """() => {
  const found = [];
  // The formula's own box scrolls, so it cuts as well as the one around it.
  for (const e of document.querySelectorAll('main div.math, main div.math mjx-container')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (box.width === 0 || style.overflowY === 'visible') continue;
    const inner = [...e.querySelectorAll('mjx-c')].map(c => c.getBoundingClientRect()).filter(r => r.height > 0);
    const top = Math.min(...inner.map(r => r.top)), bottom = Math.max(...inner.map(r => r.bottom));
    if (top < box.top - 1 || bottom > box.bottom + 1) found.push('clipped above or below: ' + e.textContent.trim().slice(0, 60));
  }
  return found;
}"""

# A number such as 1.3e-06 that goes on in the next line: a browser may break it at its sign.
_BROKEN = """() => {
  const found = [];
  const texts = document.createTreeWalker(document.querySelector('main') ?? document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    for (const match of text.data.matchAll(/\\d[\\d.]*e[-+]\\d+/g)) {
      const range = document.createRange();
      range.setStart(text, match.index);
      range.setEnd(text, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map(line => Math.round(line.top)));
      if (lines.size > 1) found.push('a number is broken: ' + match[0]);
    }
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
        page.on(
            "response", lambda answer: answer.status >= 400 and self.faults.append(f"{answer.status}: {answer.url}")
        )
        page.on("request", lambda request: self._foreign(request.url, base))

    def _foreign(self, url, base):
        if not url.startswith((base, "data:", "blob:", "about:")):
            self.faults.append(f"another host: {url}")

    def open(self, url):
        """Open, and wait until formulas are typeset."""
        self.page.goto(url, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.evaluate("() => document.fonts.ready")
        # What slides into its place would be measured on its way.
        self.page.add_style_tag(content="* { transition: none !important; animation: none !important }")
        settle(self.page)
        return self


def settle(page):
    """Wait until the page has answered to what was last done to its window."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def layout(page) -> list[str]:
    """Return what leaves the page, is cut off or is broken apart."""
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    faults = [f"the page is {wide} px wider than the window"] if wide > 0 else []
    return faults + page.evaluate(_CUT) + page.evaluate(_CLIPPED) + page.evaluate(_BROKEN)


# Contrast is most of axe's time. It is the same wherever colours, font and kind of element are, so one of each is asked:
# of those that are not known yet. Returned is what was new.
_MARK = """known => {
  const behind = e => {
    for (let p = e; p; p = p.parentElement) {
      const { backgroundColor: colour, backgroundImage: image } = getComputedStyle(p);
      if (image !== 'none' || !/, 0\\)$/.test(colour)) return colour + image;
    }
  };
  const seen = new Set(known), fresh = [];
  for (const e of document.body.querySelectorAll('*')) {
    e.removeAttribute('data-contrast');
    if (![...e.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.data.trim())) continue;
    const style = getComputedStyle(e);
    const kind = [e.tagName, e.className, style.color, style.opacity, style.fontSize, style.fontWeight, behind(e)].join();
    if (!e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || seen.has(kind)) continue;
    e.dataset.contrast = seen.add(kind).size;
    fresh.push(kind);
  }
  return fresh;
}"""
# Preloading would fetch imported style sheets from addresses that it gets wrong. The glyphs of a formula are half of a
# page's elements, have no text and are hidden from readers, who get its MathML: a box of the same size stands for them.
_RUN = """async options => {
  axe.configure({ rules: [{ id: 'color-contrast', selector: '[data-contrast]' }] });
  const formulas = [...document.querySelectorAll('mjx-math')].map(
    e => [e, e.getBoundingClientRect(), e.getAttribute('style'), [...e.childNodes]]);
  for (const [e, { width, height }] of formulas) {
    e.replaceChildren();
    e.style.cssText += `; display: inline-block; width: ${width}px; height: ${height}px`;
  }
  const { violations } = await axe.run({ ...options, resultTypes: ['violations'], preload: false });
  for (const [e, , style, glyphs] of formulas) {
    e.replaceChildren(...glyphs);
    style === null ? e.removeAttribute('style') : e.setAttribute('style', style);
  }
  return violations;
}"""
_ALL = {"runOnly": {"type": "tag", "values": RULES}}
_CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


def _axe(page, options) -> list[str]:
    page.evaluate(AXE)
    return [
        f"{violation['id']} ({len(violation['nodes'])}): {violation['nodes'][0]['html'][:160]}"
        f" {[check['message'] for check in violation['nodes'][0]['any'][:1]]}"
        for violation in page.evaluate(_RUN, options)
    ]


# The theme gives what scrolls a place among the tab stops 0.3 s after the window has another size.
_STOPS = """() => [...document.querySelectorAll('[tabindex="-1"]')].every(
  e => e.scrollWidth <= e.clientWidth || !['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"""


def _mark(page, known) -> list[str]:
    """Mark one element of each kind of text that is not known, and add it to these; return what is new."""
    fresh = page.evaluate(_MARK, known)
    known += fresh
    return fresh


def contrast(page, known: list[str]) -> list[str]:
    """Return what axe finds too faint to read, of the kinds of text that are not known; then they are."""
    return _axe(page, _CONTRAST) if _mark(page, known) else []


def accessibility(page, known: list[str] | None = None) -> list[str]:
    """Return what axe finds, WCAG 2.2 AA and best practice, and how many formulas a screen reader cannot read."""
    mute = page.evaluate("() => document.querySelectorAll('mjx-container:not(:has(mjx-assistive-mml))').length")
    faults = [f"{mute} formulas without MathML"] if mute else []
    with contextlib.suppress(TookTooLong):  # then axe says so
        page.wait_for_function(_STOPS, timeout=PATIENCE)
    _mark(page, [] if known is None else known)
    return faults + _axe(page, _ALL)


# Which menu is open: a dialog, or (on a desk) the sidebar itself. The theme puts the sidebar's contents into the dialog,
# and back a moment after it is closed; to open it within that moment would leave it open and empty.
_OPEN = """side => {
  const dialog = document.querySelector(`#pst-${side}-sidebar-modal`);
  const bar = document.querySelector(`#pst-${side}-sidebar`)?.getBoundingClientRect();
  if (!dialog || !bar) return null; // a page with one heading has no contents
  if (dialog.open !== dialog.hasChildNodes()) return 'moving';
  return dialog.open || (bar.width > 0 && bar.right > 0 && bar.left < innerWidth);
}"""


def menus(page) -> list[str]:
    """Open and close the book's menu and the page's contents, by touch and by keyboard; return what does not move."""
    faults = []
    for side in ("primary", "secondary"):
        button = page.locator(f".{side}-toggle:visible")
        if button.count() == 0:
            if page.evaluate(_OPEN, side) is False:
                faults.append(f"{side}: closed, and no button opens it")
            continue
        for how in ("touch", "keyboard"):
            before = page.evaluate(_OPEN, side)
            _press(button.first, how)
            if not _becomes(page, side, not before):
                faults.append(f"{side}: {how} does not {'close' if before else 'open'} it")
                continue
            if page.evaluate("side => document.querySelector(`#pst-${side}-sidebar-modal`).open", side):
                page.keyboard.press("Escape")
            else:
                _press(button.first, how)
            if not _becomes(page, side, before):
                faults.append(f"{side}: {how} does not {'open' if before else 'close'} it again")
    # The name of the last button would stay on top of the next one.
    page.evaluate("() => document.activeElement.blur()")
    page.mouse.move(0, 450)
    settle(page)
    return faults


def _press(button, how):
    if how == "touch":
        button.tap()
    else:
        button.focus()
        button.press("Enter")


def _becomes(page, side, state):
    try:
        page.wait_for_function(f"([side, state]) => ({_OPEN})(side) === state", arg=[side, state], timeout=PATIENCE)
    except TookTooLong:
        return False
    return True
