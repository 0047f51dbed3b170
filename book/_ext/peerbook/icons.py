"""The theme's icons, without those that no page shows.

The theme brings all of Font Awesome thrice: as a script (540 kB compressed), which `_templates/layout.html` leaves
out, as fonts (300 kB), and as a rule of its style sheet for each icon. Here the last two are cut down to what the built
pages name, so that whatever the theme or a page comes to show is there after the next build.
"""

import re
from pathlib import Path

from fontTools import subset

SHEET = Path("styles", "pydata-sphinx-theme.css")
FONTS = Path("vendor", "fontawesome", "webfonts")
SCRIPT = Path("scripts", "fontawesome.js")

# A rule as in `.fa-search:before,.fa-magnifying-glass:before{content:"\f002"}`, an escaped character, a font's sources.
RULE = re.compile(r'((?:\.fa-[\w-]+:{1,2}before,?)+)\{content:"([^"]*)"\}')
ESCAPED = re.compile(r"\\([0-9a-f]{2,6})\b", re.IGNORECASE)
SOURCES = re.compile(r"src:url\([^)]*?([\w-]+)\.woff2\)[^;}]*")


def used(texts):
    """The icons that pages and scripts name."""
    return {name for text in texts for name in re.findall(r"\bfa-[\w-]+", text)}


def cut_sheet(sheet, names):
    """The style sheet with the rules of these icons only, and its fonts as WOFF, which needs no further package."""

    def kept(rule):
        return rule[0] if names.intersection(re.findall(r"fa-[\w-]+", rule[1])) else ""

    fonts = f'src:url(../{FONTS.as_posix()}/\\1.woff) format("woff")'
    return SOURCES.sub(fonts, RULE.sub(kept, sheet))


def characters(sheets):
    """The code points that style sheets show, as an escape or as themselves."""
    return {code for sheet in sheets for code in [*map(ord, sheet), *(int(one, 16) for one in ESCAPED.findall(sheet))]}


def cut_font(source, target, wanted):
    """Write a font with these characters only."""
    options = subset.Options(flavor="woff", layout_features=[], hinting=False)
    with subset.load_font(source, options) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=wanted)
        subsetter.subset(font)
        subset.save_font(font, target, options)


def keep_used(app, exception):
    """Cut down what is in the folder of pages, from the theme's own files, once all pages are written."""
    if exception or app.builder.name != "html":
        return
    statics = [Path(folder, "static") for folder in app.builder.theme.get_theme_dirs()]
    static = next(folder for folder in statics if (folder / SHEET).exists())
    built = Path(app.outdir, "_static")
    (built / SCRIPT).unlink(missing_ok=True)
    files = [*Path(app.outdir).rglob("*.html"), *built.rglob("*.js")]
    sheet = cut_sheet((static / SHEET).read_text(), used(path.read_text() for path in files))
    (built / SHEET).write_text(sheet)
    wanted = characters(path.read_text() for path in built.rglob("*.css"))
    for old in (built / FONTS).iterdir():
        old.unlink()
    for font in sorted((static / FONTS).glob("*.ttf")):
        cut_font(font, built / FONTS / f"{font.stem}.woff", wanted)
