"""What a browser transfers for a page: all that it asks for, compressed as servers do."""

import gzip
from functools import cache

PAGE, EXPLORER = 700_000, 2_000_000
HEAVIEST = 6


class Weight:
    """The answers that a page gets from now on."""

    def __init__(self, page):
        self.page, self.answers = page, []
        page.on("response", lambda answer: self.answers.append(answer))

    def parts(self) -> dict[str, int]:
        """Return the bytes of each, once nothing more is asked for, heaviest first."""
        self.page.wait_for_load_state("networkidle")
        sizes = {answer.url: _packed(answer.body()) for answer in self.answers}
        return dict(sorted(sizes.items(), key=lambda part: -part[1]))


@cache
def _packed(body: bytes) -> int:
    # What is packed already, as pictures and fonts are, is sent as it is.
    return min(len(body), len(gzip.compress(body, mtime=0)))


def fault(name, parts, limit) -> str | None:
    """Say by how much, and for what, a page is too heavy."""
    total = sum(parts.values())
    listed = "".join(f"\n{size / 1000:8.0f} kB  {url}" for url, size in list(parts.items())[:HEAVIEST])
    text = f"{name}: {total / 1000:.0f} kB of {limit / 1000:.0f} kB, of which{listed}"
    print(text)
    return text if total > limit else None
