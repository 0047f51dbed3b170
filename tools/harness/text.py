"""Compare texts token by token: numbers to a relative tolerance, everything else exactly.

A number with a point or an exponent is real; it agrees if it is within the tolerance and printed in the same form:
with as many decimals, an exponent or none, a plus or none. Only the reprs of two floats may differ in form, if one has
15 digits or more: such a length is noise. At the default tolerance of 1e-6 two numbers of five digits or fewer
therefore agree only if they show the same digits. A number without point and exponent counts something: it must be
the same, whatever the tolerance. Digits inside a word, as in ``x1``, are part of the word. An exponent has a sign, as
Python prints it: the colour ``#0e7490`` is no number, which would be zero, but a count and a word.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal

_NUMBER = re.compile(r"((?<![\w.])[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]{1,3}(?!\w))?)")
_FORM = re.compile(r"([-+]?)[0-9]*(\.?[0-9]*)([eE]?)")
# From here on a float's repr may tell more than the computation knows.
_NOISY_DIGITS = 15
_CONTEXT = 60


@dataclass(frozen=True)
class Tolerance:
    """How far a new output may be from the stored one."""

    relative: float = 1e-6
    """Of real numbers."""
    absolute: float = 0.0
    """Of real numbers, for those that are zero but for rounding."""
    picture: float = 3.0
    """Of pictures, see ``pictures.distance``."""
    reason: str = ""
    """Why it is not the default."""

    @classmethod
    def of(cls, *metadata) -> "Tolerance":
        """Return the tolerance named under ``tolerance`` in the last metadata that names one, or the default.

        A malformed one, which fails the rules, counts as none.
        """
        named = [one["tolerance"] for one in metadata if "tolerance" in one and not tolerance_problem(one)]
        return cls(**named[-1]) if named else cls()


def tolerance_problem(metadata) -> str | None:
    """Say what is wrong with the tolerance that this metadata names, if anything is."""
    named = metadata.get("tolerance", {"reason": "none is named"})
    known = {field.name for field in fields(Tolerance)}
    if not isinstance(named, dict) or set(named) - known:
        return f"the tolerance must have keys among {sorted(known)}, got {named!r}"
    if not isinstance(named.get("reason"), str) or not named["reason"].strip():
        return f"the tolerance {dict(named)} has no reason beside it: give it the key 'reason'"
    for name in sorted(set(named) - {"reason"}):
        value = named[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            return f"the tolerance's {name} must be a number that is not negative, got {value!r}"
    return None


def differences(stored: str, new: str, tolerance: Tolerance) -> Iterator[str]:
    """Yield what differs between two texts, line by line; nothing if they agree."""
    old_lines, new_lines = stored.splitlines(keepends=True), new.splitlines(keepends=True)
    for old, fresh in zip(old_lines, new_lines, strict=False):
        if old != fresh:
            yield from _line(old, fresh, tolerance)
    if len(old_lines) != len(new_lines):
        yield f"{len(old_lines)} lines stored, {len(new_lines)} new"


def numbers_agree(stored: float, new: float, tolerance: Tolerance) -> bool:
    """Say whether two real numbers agree; NaN agrees with NaN."""
    if math.isnan(stored) or math.isnan(new):
        return math.isnan(stored) and math.isnan(new)
    return math.isclose(stored, new, rel_tol=tolerance.relative, abs_tol=tolerance.absolute)


def number_difference(stored, new, tolerance: Tolerance) -> str:
    """Say how far apart two numbers are."""
    size = abs(float(new) - float(stored)) / max(abs(float(stored)), abs(float(new)), 1e-300)
    return f"{stored} stored, {new} new: relative difference {size:.1e}, tolerance {tolerance.relative:.0e}"


def _line(stored, new, tolerance):
    old_tokens, new_tokens = _NUMBER.split(stored), _NUMBER.split(new)
    if old_tokens[::2] != new_tokens[::2]:
        at = next((i for i, (a, b) in enumerate(zip(stored, new, strict=False)) if a != b), min(len(stored), len(new)))
        yield f"{_around(stored, at)!r} stored, {_around(new, at)!r} new"
        return
    at = 0
    for place, (old, fresh) in enumerate(zip(old_tokens, new_tokens, strict=True)):
        if place % 2 and (found := _token_difference(old, fresh, tolerance)):
            yield f"{found}, in {_around(stored, at)!r}"
        at += len(old)


def _token_difference(stored, new, tolerance):
    if stored == new:
        return None
    counts = not (_is_real(stored) or _is_real(new))
    if counts or not numbers_agree(float(stored), float(new), tolerance):
        return number_difference(stored, new, tolerance)
    return None if _same_form(stored, new) else f"{stored} stored, {new} new: another form of the number"


def _same_form(stored, new):
    both = stored, new
    reprs = all(token == repr(float(token)) for token in both)
    if reprs and max(len(Decimal(token).as_tuple().digits) for token in both) >= _NOISY_DIGITS:
        return True
    (sign, decimals, exponent), (new_sign, new_decimals, new_exponent) = map(_form, both)
    # What is zero but for rounding has either sign.
    plus = {sign, new_sign} == {"", "+"}
    return not plus and (len(decimals), exponent) == (len(new_decimals), new_exponent)


def _form(token):
    found = _FORM.match(token)
    assert found, f"{token} is no number"
    return found.groups()


def _is_real(token):
    return any(mark in token for mark in ".eE")


def _around(line, at):
    start = max(0, at - _CONTEXT // 2)
    part = line[start : start + _CONTEXT].strip()
    return f"{'...' if start else ''}{part}{'...' if start + _CONTEXT < len(line) else ''}"
