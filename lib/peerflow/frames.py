"""Stored frames: a few pictures that one slider moves, in a notebook as a widget and in a page without a kernel.

What moves is numbers, computed once: :func:`chart` and :func:`graph` pack them, one frame for each place of the slider,
with a sentence that says what the frame shows. The panel's JavaScript draws them, with the explorer's own controls and
charts. As an output of a cell it brings itself as HTML as well, which a page mounts by a script of 8 kB.

>>> import numpy as np
>>> times = np.linspace(0, 1, 5)
>>> curves = [np.exp(-rate * times) for rate in (1, 2, 3)]
>>> view = chart(
...     "What is left",
...     [series(times, curves)],
...     limits=(0, 1),
...     label="time",
...     words=[f"At rate {rate} {curve[-1]:.2f} is left." for rate, curve in zip((1, 2, 3), curves)],
... )
>>> panel = Frames("Decay at three rates", [view], control="Rate", places=["1", "2", "3"])
>>> panel.place = 2
>>> panel.views[0]["words"][panel.place]
'At rate 3 0.05 is left.'
"""

import html
import json
import math
from collections.abc import Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets

from peerflow import _checks, explorer
from peerflow.methods import DGD

MODULES = ("charts", "controls", "network", "player", "frames")
"""The files of JavaScript, each importing from earlier ones only."""
LOOKS = {look: None for look in ("line", "dashed", "band", "points")}
DIGITS = 4
"""Of every stored number: of the range in which it is drawn, or of its own where the axis is logarithmic."""


def page_script() -> str:
    """Return the panels for pages without a kernel, as a script that is no module: those cannot be read from file://."""
    return f'(() => {{\n"use strict";\n{explorer.script([*MODULES[:-1], "pagemodel", "frames", "framespage"])}}})();\n'


def series(x, y, *, look: str = "line", colour: int | None = 0, name: str = "") -> dict[str, Any]:
    """Return one line of a chart, or its points.

    Parameters
    ----------
    x
        ``(points,)``.
    y
        ``(frames, points)``, or ``(points,)`` where it is the same in every frame.
    look
        ``"line"``, ``"dashed"``, ``"band"`` (wide and pale) or ``"points"``.
    colour
        The number of one of eight colours, those of the peers, or None for the colour of the text.
    name
        In the legend; without one it is not there.

    Raises
    ------
    ValueError
        If x and y do not fit, or the look is none of these.
    """
    x = _checks.array("x", x, ("points",))
    _checks.choice("look", look, LOOKS)
    y = _checks.array("y", y)
    _checks.shape_of("y", y.shape, (("frames",) if y.ndim > 1 else ()) + (x.size,))
    return {"x": _significant(x), "y": y.tolist(), "look": look, "colour": colour, "name": name}


def chart(
    title: str,
    lines: Sequence[dict[str, Any]],
    *,
    words: Sequence[str],
    limits: tuple[float, float],
    label: str,
    logarithmic: bool = False,
    cursor=None,
) -> dict[str, Any]:
    """Return a chart of :func:`series`.

    Parameters
    ----------
    words
        One sentence for each frame: what it shows, for who does not see it.
    limits
        Of the vertical axis, in every frame. What leaves them is cut off.
    label
        Of the horizontal axis.
    cursor
        ``(frames,)``, where on the horizontal axis each frame stands; none is drawn without.

    Raises
    ------
    ValueError
        If there is no line, or limits do not increase or cannot be drawn on a logarithmic axis.
    """
    if not lines:
        raise ValueError("lines must hold a series at least, got none")
    low, high = (float(each) for each in _checks.array("limits", limits, (2,)))
    if not low < high or (logarithmic and low <= 0):
        raise ValueError(f"limits must increase{' and be positive' * logarithmic}, got {limits!r}")
    shown = [{**one, "y": _drawn(np.array(one["y"]), low, high, logarithmic)} for one in lines]
    ends = [each for one in lines for each in (min(one["x"]), max(one["x"]))]
    return {
        "kind": "chart",
        "title": title,
        "words": list(words),
        "series": shown,
        "span": [min(ends), max(ends)],
        "limits": [low, high],
        "label": label,
        "logarithmic": bool(logarithmic),
        "cursor": None if cursor is None else _significant(_checks.array("cursor", cursor, (len(words),))),
    }


def graph(title: str, values, *, W, words: Sequence[str]) -> dict[str, Any]:
    """Return a graph whose agents hold ``values`` (frames, agents), coloured by their distance from the mean.

    Links are as wide as their weights in the mixing matrix W.

    Raises
    ------
    ValueError
        If W is no mixing matrix for so many agents, or there is not one sentence for each frame.
    """
    values = _checks.array("values", values, (len(words), "agents"))
    method = DGD(W)
    _checks.shape_of("W", method.W.shape, (values.shape[1],) * 2)
    return {
        "kind": "graph",
        "title": title,
        "words": list(words),
        "values": _drawn(values, values.min(), values.max()),
        "edges": explorer.links(method),
        "W": _significant(method.dense),
    }


def _drawn(values, low, high, logarithmic=False) -> list:
    """Return numbers as they are drawn between these limits: what is zero but for rounding depends on the machine."""
    if logarithmic:
        return _significant(np.maximum(values, low / 10))  # below the picture, as the panel draws them
    span = high - low or 1.0
    # Nothing is -0.0, which rounding may give or not.
    return (np.round(values, DIGITS - math.floor(math.log10(span))) + 0.0).tolist()


def _significant(values) -> list:
    """Return an array's numbers as lists, with few digits: the same in Python, in the notebook and in the page."""
    rounded = [float(f"{each:.{DIGITS}g}") for each in values.ravel()]
    return np.reshape(rounded, values.shape).tolist()


class Frames(anywidget.AnyWidget):
    """The panel: Python sets and reads the place at which its reader is.

    Raises
    ------
    ValueError
        If views do not have one frame for each place, or the place is none of them.
    """

    _esm = explorer.script(MODULES)
    _css = explorer.style()
    name = traitlets.Unicode(read_only=True).tag(sync=True)
    """Of the panel, for who does not see it."""
    control = traitlets.Unicode(read_only=True).tag(sync=True)
    """What the slider is called."""
    places = traitlets.List(read_only=True).tag(sync=True)
    """What each place of the slider is called."""
    views = traitlets.List(read_only=True).tag(sync=True)
    """From :func:`chart` and :func:`graph`."""
    place = explorer.Checked(0).tag(sync=True)
    """The number of the frame that is shown."""

    def __init__(self, name: str, views: Sequence[dict], *, control: str, places, place: int = 0):
        """Show ``views``, which have a frame for each of ``places``, names or numbers."""
        places = [str(each) for each in places]
        if len(places) < 2:
            raise ValueError(f"places must be two at least, got {len(places)}")
        for view in views:
            _checks.shape_of(f"words of {view['title']!r}", (len(view["words"]),), (len(places),))
            for one in view.get("series", []):
                _checks.shape_of(f"y in {view['title']!r}", np.shape(one["y"]), _frames(one["y"], len(places)))
        given = {"name": name, "control": control, "places": places, "views": list(views)}
        for trait, value in given.items():
            self.set_trait(trait, value)
        super().__init__(place=place)

    def __repr__(self) -> str:
        return f"Frames({self.name!r}, {len(self.places)} frames)"

    @traitlets.validate("place")
    def _check_place(self, proposal):
        place = _checks.count("place", proposal["value"], minimum=0)
        if place >= len(self.places):
            raise ValueError(f"place must be below {len(self.places)}, got {place}")
        return place

    def page(self) -> str:
        """Return the panel for a page: its text at this place, and all of it as JSON that the page's script mounts."""
        state = {name: getattr(self, name) for name in ("name", "control", "places", "views", "place")}
        text = " ".join(view["words"][self.place] for view in self.views)
        # As "<" no part of the text ends the script.
        stored = json.dumps(state, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<div class="peerflow-frames"><p>{html.escape(text, quote=False)}</p>'
            f'<script type="application/json">{stored}</script></div>'
        )

    def _repr_mimebundle_(self, **kwargs):
        data, *metadata = super()._repr_mimebundle_(**kwargs) or ({},)
        return data | {"text/html": self.page()}, *metadata


def _frames(values, places):
    """Return the shape that a series must have."""
    return (places, "points") if np.ndim(values) > 1 else ("points",)
