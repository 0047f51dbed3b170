"""The page that says when, where and how fast this copy of the book was executed."""

import datetime
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "neural-tangents", "diffrax", "numpy", "scipy", "matplotlib", "networkx", "scikit-learn")


def page(seconds: Mapping[str, float]) -> str:
    """Return the page as Markdown, from the seconds that each notebook took."""
    now = datetime.datetime.now(datetime.UTC)
    notebooks = [f"| `{name}` | {time:.1f} |" for name, time in sorted(seconds.items())]
    packages = [f"| {name} | {version(name)} |" for name in PACKAGES]
    return "\n".join([
        f"Executed on {now:%Y-%m-%d} at {now:%H:%M} UTC, one notebook a core, on {os.cpu_count()} cores "
        f"({_processor()}), {platform.system()}, Python {platform.python_version()}.",
        "",
        "| Notebook | Seconds |",
        "|:--|--:|",
        *notebooks,
        f"| all, one after the other | {sum(seconds.values()):.1f} |",
        "",
        "| Package | Version |",
        "|:--|:--|",
        *packages,
        "",
    ])  # fmt: skip


def _processor() -> str:
    """Return the processor's name, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
