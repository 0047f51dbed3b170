"""The checks notice what they are there for: each fault is planted in a small page, and found under its own name."""

import checks
import pytest
from serving import serve

PAGE = """<!DOCTYPE html><html lang="en"><head><title>A page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><dialog id="pst-primary-sidebar-modal"></dialog><dialog id="pst-secondary-sidebar-modal"></dialog>
<main><h1>A page</h1><button class="primary-toggle">Menu</button><button class="secondary-toggle">Contents</button>
<p>Some text.</p>{fault}</main>
<nav id="pst-primary-sidebar" style="display: none" aria-label="Book">menu</nav>
<nav id="pst-secondary-sidebar" style="display: none" aria-label="Page">contents</nav>
<script>for (const side of ["primary", "secondary"]) {{
  const [bar, dialog] = ["", "-modal"].map(end => document.querySelector(`#pst-${{side}}-sidebar${{end}}`));
  document.querySelector(`.${{side}}-toggle`).onclick = () => {{ dialog.append(...bar.childNodes); dialog.showModal(); }};
  dialog.onclose = () => bar.append(...dialog.childNodes);
}}</script></body></html>"""
FORMULA = """<div class="math" style="width: 200px; {box}"><mjx-container style="display: block; {style}">
<mjx-math style="display: block; width: 500px; {math}">a long formula<mjx-c style="display: block; height: 20px">a</mjx-c>
</mjx-math><mjx-assistive-mml></mjx-assistive-mml></mjx-container></div>"""
DEAD = '<script>addEventListener("load", () => document.querySelector(".{side}-toggle").onclick = null)</script>'
# On a busy machine the page hears late that a menu was closed; one that is opened before would stay open, and empty.
LATE = """<script>for (const side of ["primary", "secondary"]) {
  const dialog = document.querySelector(`#pst-${side}-sidebar-modal`);
  dialog.addEventListener("close", event => {
    if (!event.isTrusted) return;
    event.stopImmediatePropagation();
    setTimeout(() => dialog.dispatchEvent(new Event("close")), 300);
  });
  document.querySelector(`.${side}-toggle`).addEventListener("click", () => {
    if (dialog.hasChildNodes()) console.error("opened while it closes");
  });
}</script>"""


@pytest.fixture
def examine(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "PATIENCE", 1000)
    server = serve(tmp_path)
    context = browser.new_context(viewport={"width": 390, "height": 900}, has_touch=True)

    def found(fault):
        (tmp_path / "page.html").write_text(PAGE.format(fault=fault))
        page, base = context.new_page(), f"http://127.0.0.1:{server.server_port}"
        visit = checks.Visit(page, base).open(f"{base}/page.html")
        return checks.layout(page) + checks.accessibility(page) + checks.menus(page) + visit.faults

    yield found
    context.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "fault",
    [
        "",
        FORMULA.format(box="overflow: hidden", style="overflow-x: auto", math="").replace("<mjx-container", '<mjx-container tabindex="0"'),
        "<pre tabindex='0' style='overflow-x: auto'>" + "x" * 300 + "</pre>",
        LATE,
    ],
)  # fmt: skip
def test_a_good_page_has_no_fault(examine, fault):
    assert examine(fault) == []


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("<script>console.error('no')</script>", "console: no"),
        ("<script>const a = 1</script><script>const a = 2</script>", "uncaught: "),
        ("<img alt='gone' src='gone.png'>", "404: "),
        ("<img alt='far' src='http://example.invalid/far.png'>", "another host: http://example.invalid"),
        ("<div style='width: 500px; height: 1px'></div>", "the page is "),
        ("<table style='width: 600px'><tr><td>wide</td></tr></table>", "outside of the window: table"),
        ("<div style='overflow: hidden'><pre>" + "x" * 300 + "</pre></div>", "cut, and nothing scrolls: pre"),
        (FORMULA.format(box="overflow: hidden", style="", math=""), "cut, and nothing scrolls: mjx-container"),
        (FORMULA.format(box="overflow: hidden", style="overflow-x: auto; min-width: 500px; margin-left: -300px", math=""),
         "its left side is lost: mjx-container"),
        (FORMULA.format(box="overflow: hidden", style="", math="width: 100px; margin-top: -40px"), "clipped above or below"),
        (FORMULA.format(box="", style="overflow: hidden", math="width: 100px; margin-top: -40px"), "clipped above or below"),
        ("<p style='width: 3em'>about 1.3e-06</p>", "a number is broken: 1.3e-06"),
        ("<p style='color: #aaa; background: #fff'>faint</p>", "color-contrast"),
        ("<a href='#'></a>", "link-name"),
        ("<pre tabindex='-1' style='overflow-x: auto'>" + "x" * 300 + "</pre>", "scrollable-region-focusable"),
        ("<mjx-container>x</mjx-container>", "1 formulas without MathML"),
        (DEAD.format(side="primary"), "primary: touch does not open it"),
        (DEAD.format(side="secondary"), "secondary: keyboard does not open it"),
    ],
)  # fmt: skip
def test_a_fault_is_found(examine, fault, name):
    found = examine(fault)
    assert [one for one in found if one.startswith(name)], found
