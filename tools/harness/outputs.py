"""Compare a cell's stored outputs with new ones: every MIME type, streams and metadata alike.

Ids of widgets are left to ``widgets``, which compares what stands behind them.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from harness import pictures, text
from harness.text import Tolerance

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# The end of a MIME type; glue sets its own name before it.
_PICTURE = "image/png"
# In one line, or in lines of 76 characters, as Python's base64 writes it: words that follow are none of it.
_EMBEDDED = re.compile(r"data:image/png;base64,((?:[A-Za-z0-9+/]{76}\n)*[A-Za-z0-9+/]+={0,2})")
# Of an output that is not expected.
_START = 200
# Counted by position, not part of what a reader sees.
_IGNORED = {"output_type", "execution_count", "traceback"}


class Comparison:
    """Collects what differs; pictures that do are saved beside ``stem``, if one is given."""

    def __init__(self, tolerance: Tolerance, stem: Path | None = None):
        self.tolerance, self.stem = tolerance, stem
        self.saved = 0

    def outputs(self, stored: list, new: list) -> Iterator[str]:
        """Yield what differs between two lists of outputs."""
        old, fresh = merge_streams(stored), merge_streams(new)
        kinds, new_kinds = [_kind(one) for one in old], [_kind(one) for one in fresh]
        if kinds != new_kinds:
            yield f"outputs: {kinds} stored, {new_kinds} new"
            for where, some, others in (("stored", old, new_kinds), ("new", fresh, kinds)):
                yield from (f"only {where}: {found}" for found in _surplus(some, others))
            return
        for one, other in zip(old, fresh, strict=True):
            for key in sorted((one.keys() | other.keys()) - _IGNORED):
                if key == "data":
                    yield from self._data(one["data"], other["data"])
                else:
                    yield from self.values(key, one.get(key), other.get(key))

    def _data(self, stored, new):
        for mime in sorted(stored):
            one, other = stored[mime], new[mime]
            if mime == WIDGET_VIEW:
                one, other = {**one, "model_id": None}, {**other, "model_id": None}
            yield from self.values(mime, one, other)

    def values(self, path: str, stored, new) -> Iterator[str]:
        """Yield what differs between two JSON values, each difference with its place."""
        if isinstance(stored, str) and isinstance(new, str):
            yield from self._text(path, stored, new)
        elif isinstance(stored, dict) and isinstance(new, dict):
            for key in sorted(stored.keys() | new.keys()):
                if (key in stored) != (key in new):
                    yield f"{path}.{key}: only {'stored' if key in stored else 'new'}"
                else:
                    yield from self.values(f"{path}.{key}", stored[key], new[key])
        elif isinstance(stored, list) and isinstance(new, list):
            if len(stored) != len(new):
                yield f"{path}: {len(stored)} entries stored, {len(new)} new"
            for place, (one, other) in enumerate(zip(stored, new, strict=False)):
                yield from self.values(f"{path}[{place}]", one, other)
        elif isinstance(stored, float) and isinstance(new, float):
            if not text.numbers_agree(stored, new, self.tolerance):
                yield f"{path}: {text.number_difference(stored, new, self.tolerance)}"
        elif stored != new or type(stored) is not type(new):
            yield f"{path}: {stored!r} stored, {new!r} new"

    def _text(self, path, stored, new):
        if stored == new:
            return
        if path.endswith(_PICTURE):
            yield from self.encoded(path, stored, new)
            return
        # Text and pictures in turn.
        old, fresh = _EMBEDDED.split(stored), _EMBEDDED.split(new)
        if len(old) != len(fresh):
            yield f"{path}: pictures: {len(old) // 2} stored, {len(fresh) // 2} new"
            return
        for place, (one, other) in enumerate(zip(old, fresh, strict=True)):
            if place % 2:
                yield from self.encoded(path, one, other)
            else:
                yield from (f"{path}: {found}" for found in text.differences(one, other, self.tolerance))

    def encoded(self, path: str, stored: str, new: str) -> Iterator[str]:
        """Yield how two base64 texts differ: pictures as such, others letter by letter."""
        old, fresh = pictures.decoded(stored), pictures.decoded(new)
        if old and fresh:
            yield from self._png(path, old, fresh)
        elif stored != new:
            yield f"{path}: binary value differs"

    def _png(self, path, stored, new):
        found = pictures.difference(stored, new, self.tolerance.picture)
        if found is None:
            return
        if self.stem is None:
            yield f"{path}: {found}"
            return
        self.saved += 1
        stem = self.stem if self.saved == 1 else self.stem.with_name(f"{self.stem.name}-{self.saved}")
        pictures.save(stem, stored, new)
        yield f"{path}: {found}; see {stem}-*.png"


def reduce_pictures(output) -> None:
    """Give an output's pictures fewer colours, see ``pictures.reduced``."""
    for mime, value in output.get("data", {}).items():
        if mime.endswith(_PICTURE) and (png := pictures.decoded(value)):
            output["data"][mime] = base64.b64encode(pictures.reduced(png)).decode()


def merge_streams(outputs: list) -> list:
    """Return the outputs with neighbouring pieces of one stream joined: where a kernel cuts them is chance."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            merged[-1] = type(last)(last, text=last["text"] + output["text"])
        else:
            merged.append(output)
    return merged


def _surplus(outputs, others):
    """Yield the start of what each output says that is of none of the other kinds, or of more than there are."""
    left = list(others)
    for output in outputs:
        if (kind := _kind(output)) in left:
            left.remove(kind)
            continue
        data = output.get("data", {})
        said = output.get("text") or output.get("evalue") or data.get("text/plain") or next(iter(data.values()), "")
        start = str(said).strip()
        yield f"{kind}: {start[:_START]!r}{'...' if len(start) > _START else ''}"


def _kind(output):
    what = sorted(output["data"]) if "data" in output else [output.get("name", output.get("ename"))]
    return f"{output['output_type']} ({', '.join(map(str, what))})"
