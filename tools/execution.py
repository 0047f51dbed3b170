"""The page that says when, where and how fast this copy of the book was executed."""

import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from kept import Result

# Of a notebook's differences.
_SHOWN = 20
PACKAGES = ("jax", "jaxlib", "neural-tangents", "diffrax", "numpy", "scipy", "matplotlib", "networkx", "scikit-learn")


def moved(results: Mapping[str, Result]) -> str:
    """Say in a line which notebooks' outputs moved."""
    names = [f"{name} ({len(result.news)})" for name, result in sorted(results.items()) if result.news]
    if not names:
        return "nothing moved: every output agrees with the stored one"
    return f"MOVED: outputs differ from the stored ones in {', '.join(names)}"


def page(results: Mapping[str, Result]) -> str:
    """Return the page as Markdown, from what executing each notebook gave."""
    times = sorted({result.at for result in results.values()})
    when = times[0] if len(times) == 1 else f"from {times[0]} to {times[-1]}"
    news = [f"- `{name}`, {line}" for name, result in sorted(results.items()) for line in _shown(result.news)]
    notebooks = [f"| `{name}` | {result.seconds:.1f} |" for name, result in sorted(results.items())]
    packages = [f"| {name} | {version(name)} |" for name in PACKAGES]
    return "\n".join([
        f"Executed {when} UTC, one notebook a core, on {os.cpu_count()} cores "
        f"({_processor()}), {platform.system()}, Python {platform.python_version()}.",
        "",
        *([f"**{moved(results)}.**", "", *news] if news else [f"{moved(results).capitalize()}."]),
        "",
        "| Notebook | Seconds |",
        "|:--|--:|",
        *notebooks,
        f"| all, one after the other | {sum(result.seconds for result in results.values()):.1f} |",
        "",
        "| Package | Version |",
        "|:--|:--|",
        *packages,
        "",
    ])  # fmt: skip


def _shown(news: list[str]) -> Iterator[str]:
    """Yield the first differences as code, since they may hold any character."""
    for line in news[:_SHOWN]:
        cell, _, what = " ".join(line.split()).partition(": ")
        yield f"{cell}: `{what.replace('`', chr(39))}`"
    if len(news) > _SHOWN:
        yield f"and {len(news) - _SHOWN} more"


def _processor() -> str:
    """Return the processor's name, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
