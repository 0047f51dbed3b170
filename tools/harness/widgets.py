"""Compare the widgets that a rendered page shows: their models, values and links, whatever their ids are.

A notebook stores a model for every widget, and models name one another by random ids. Here a model is named by how one
reaches it: first those that a cell shows, in order, with what these refer to; then the rest, such as links between
sliders, which refer to others while nothing refers to them.
"""

import json
from collections.abc import Iterator

from harness.outputs import WIDGET_VIEW, Comparison

STATE = "application/vnd.jupyter.widget-state+json"
_PREFIX = "IPY_MODEL_"
# Where a running kernel's frontend sends outputs: new at every run, of no meaning in a page.
_PASSING = {"msg_id"}


def models(notebook) -> dict:
    """Return a notebook's widget models by id."""
    return notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})


def rename(notebook) -> dict[str, str]:
    """Give a notebook's widgets the names ``widget_0000``, ...; return the cell through which each is reached."""
    found = models(notebook)
    views = [(cell, view) for cell in notebook.cells for view in _views(cell)]
    names, cells = {}, {}
    for cell, view in views:
        _reach(view["model_id"], cell.id, found, names, cells)
    while rest := found.keys() - names.keys():
        chosen = min(rest, key=lambda one: (_signature(one, found, names), one))
        known = [cells[names[ref]] for ref in _references(found[chosen]["state"]) if ref in names]
        _reach(chosen, known[0] if known else "no cell", found, names, cells)
    for _, view in views:
        view["model_id"] = names.get(view["model_id"], "missing")
    if found:
        stored = notebook.metadata["widgets"][STATE]
        stored["state"] = {names[one]: _renamed(found[one], names) for one in sorted(found, key=names.__getitem__)}
    return cells


def differences(stored, new, comparison: Comparison) -> Iterator[str]:
    """Yield what differs between the widgets of two notebooks, both renamed, each with the cell that shows it."""
    cells, new_cells = rename(stored), rename(new)
    old, fresh = models(stored), models(new)
    shown, new_shown = ([view["model_id"] for cell in nb.cells for view in _views(cell)] for nb in (stored, new))
    if shown != new_shown:
        yield f"widgets shown: {shown} stored, {new_shown} new"
    if bool(old) != bool(fresh):
        yield f"widgets: {len(old) or 'no'} models stored, {len(fresh) or 'none'} new"
        return
    yield from comparison.values("widgets", _frame(stored), _frame(new))
    for name in sorted(old.keys() | fresh.keys()):
        if name not in old or name not in fresh:
            there, where = (old, "stored") if name in old else (fresh, "new")
            yield f"{cells.get(name, new_cells.get(name))}: {_title(there[name])} only {where}"
            continue
        one, other = old[name], fresh[name]
        place = f"{cells[name]}: {_title(one)}"
        yield from comparison.values(place, *(_without(side, "state", "buffers") for side in (one, other)))
        yield from comparison.values(place, _spoken(one["state"], old), _spoken(other["state"], fresh))
        yield from _buffers(place, one.get("buffers", []), other.get("buffers", []), comparison)


def _frame(notebook):
    """Return what is stored around the models."""
    return {kind: _without(stored, "state") for kind, stored in notebook.metadata.get("widgets", {}).items()}


def _without(holder, *keys):
    """Leave out the values of some keys, but not that the keys are there."""
    return {key: None if key in keys else value for key, value in holder.items()}


def _buffers(place, stored, new, comparison):
    """Compare binary values, path by path."""
    old, fresh = (sorted(side, key=_path) for side in (stored, new))
    paths, new_paths = ([_path(one) for one in side] for side in (old, fresh))
    if paths != new_paths:
        yield f"{place}: binary values {paths} stored, {new_paths} new"
        return
    for one, other in zip(old, fresh, strict=True):
        path = f"{place}{_path(one)}"
        yield from comparison.values(path, _without(one, "data"), _without(other, "data"))
        yield from comparison.encoded(path, one["data"], other["data"])


def _path(buffer):
    return json.dumps(buffer["path"])


def _views(cell):
    return [output["data"][WIDGET_VIEW] for output in cell.get("outputs", []) if WIDGET_VIEW in output.get("data", {})]


def _reach(one, cell, found, names, cells):
    """Name a model and, depth first, what it refers to."""
    if one in names or one not in found:
        return
    names[one] = f"widget_{len(names):04d}"
    cells[names[one]] = cell
    for ref in _references(found[one]["state"]):
        _reach(ref, cell, found, names, cells)


def _references(value) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(_PREFIX):
        yield value.removeprefix(_PREFIX)
    elif isinstance(value, dict):
        for key in sorted(value):
            if key == WIDGET_VIEW:
                yield value[key]["model_id"]
            yield from _references(value[key])
    elif isinstance(value, list):
        for entry in value:
            yield from _references(entry)


def _signature(one, found, names, depth=3) -> str:
    """Return what a model is, without ids: named models by name, others by their own signature."""
    if one in names:
        return names[one]
    if one not in found or depth == 0:
        return "unknown"

    def plain(value):
        if isinstance(value, str) and value.startswith(_PREFIX):
            return _signature(value.removeprefix(_PREFIX), found, names, depth - 1)
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items() if key not in _PASSING}
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        return f"{value:.6g}" if isinstance(value, float) else value

    return json.dumps([found[one]["model_name"], plain(found[one]["state"])], sort_keys=True)


def _renamed(value, names):
    if isinstance(value, str) and value.startswith(_PREFIX):
        return _PREFIX + names.get(value.removeprefix(_PREFIX), "missing")
    if isinstance(value, dict):
        if value.keys() >= {"model_id", "version_major"}:
            return {**value, "model_id": names.get(value["model_id"], "missing")}
        return {key: "" if key in _PASSING else _renamed(entry, names) for key, entry in value.items()}
    return [_renamed(entry, names) for entry in value] if isinstance(value, list) else value


def _spoken(value, found):
    """Replace references by what they refer to, so that a difference can be read."""
    if isinstance(value, str) and value.startswith(_PREFIX):
        name = value.removeprefix(_PREFIX)
        return f"{_title(found[name]) if name in found else 'missing'} ({name})"
    if isinstance(value, dict):
        return {key: _spoken(entry, found) for key, entry in value.items()}
    return [_spoken(entry, found) for entry in value] if isinstance(value, list) else value


def _title(model):
    description = model["state"].get("description")
    return model["model_name"].removesuffix("Model") + (f" {description!r}" if description else "")
