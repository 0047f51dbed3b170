"""The README's badge and the setting agree."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from badge import MARK, rewrite  # noqa: E402

CONFIG = 'repository:\n  url: "https://github.com/owner/name"\n  branch: main\n'
BADGE = (
    "[![Binder](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/book)"
)


def test_the_readme_has_the_badge_of_the_setting():
    readme = (ROOT / "README.md").read_text()
    assert rewrite(readme, (ROOT / "_config.yml").read_text()) == readme, "run tools/badge.py"


def test_an_address_gives_a_badge_and_none_gives_none():
    with_badge = rewrite(f"# Title\n\n{MARK}\n\nText\n", CONFIG)
    assert with_badge == f"# Title\n\n{MARK}{BADGE}\n\nText\n"
    assert rewrite(with_badge, CONFIG) == with_badge
    assert rewrite(with_badge, CONFIG.replace("https://github.com/owner/name", "")) == f"# Title\n\n{MARK}\n\nText\n"


def test_a_readme_without_its_place_is_an_error():
    with pytest.raises(ValueError, match="0 times, expected once"):
        rewrite("# Title\n", CONFIG)
