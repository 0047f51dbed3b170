"""Write Binder's badge into README.md, for the repository that `_config.yml` names; without one there is no badge.

python tools/badge.py
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from peerbook.address import BINDER, repository  # noqa: E402

MARK = "<!-- badge: tools/badge.py -->"


def badge(setting, branch):
    """Markdown for a setting; the git remote of whoever builds is not asked, since the README is the same for all."""
    if not setting:
        return ""
    owner, name = repository(setting, ROOT).split("/")[-2:]
    link = f"{BINDER}/v2/gh/{owner}/{name}/{branch}?urlpath=lab/tree/book"
    return f"[![Binder]({BINDER}/badge_logo.svg)]({link})"


def rewrite(readme, config):
    """The text of the README with the badge of this configuration, and no other."""
    if readme.count(MARK) != 1:
        raise ValueError(f"README.md holds {MARK} {readme.count(MARK)} times, expected once")
    setting = yaml.safe_load(config)["repository"]
    return re.sub(f"{re.escape(MARK)}.*", lambda _: MARK + badge(setting["url"], setting["branch"]), readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewrite(path.read_text(), (ROOT / "_config.yml").read_text()))
