"""Checks of arguments. Each says what was expected and what came; under a JAX trace values are not known and pass.

What may be traced is returned as a numpy array or a number, or else as anything.
"""

import math
import operator
import os
from typing import Any

import jax
import numpy as np
import scipy.sparse
from jax.core import Tracer

# Kinds of numpy's arrays that are their numbers and nothing else.
_PLAIN = (np.ndarray, np.matrix, np.memmap)


def array(name, value, shape=None, *, finite=True) -> np.ndarray | Any:
    """Return ``value`` as a floating array of this shape, free of NaN and infinity unless they are allowed.

    Parameters
    ----------
    name
        What the message calls it.
    value
        Anything array-like, sparse matrices of scipy among it. Floating dtypes are kept, in the machine's byte order;
        integers and booleans become float64.
    shape
        One entry per axis: an integer is required, a string names a free axis. Axes of one name are equally long.
    finite
        Refuse NaN and infinity.

    Raises
    ------
    ValueError
        If it is not numeric, means more than its numbers say (a mask, a unit), has another shape, or holds NaN or
        infinity. Under a JAX trace only the shape is known.
    """
    result = value if isinstance(value, Tracer) else _numbers(name, value)
    if shape is not None:
        shape_of(name, result.shape, shape)
    if finite and isinstance(result, np.ndarray) and not np.isfinite(result).all():
        bad = int((~np.isfinite(result)).sum())
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite of {result.size} entries")
    return result


def shape_of(name, have, want):
    """Refuse another shape than wanted: an integer is required, a string names a free axis, ``...`` any more axes."""
    axes = want[:-1] if want[-1:] == (...,) else want
    named = {}
    fits = (len(have) == len(want) or (axes != want and len(have) >= len(axes))) and all(
        size == (named.setdefault(axis, size) if isinstance(axis, str) else axis)
        for axis, size in zip(axes, have, strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name} must have shape ({', '.join('...' if a is ... else str(a) for a in want)}), got {have}"
        )


def _numbers(name, value) -> np.ndarray:
    """Return a plain floating array in the machine's byte order."""
    if scipy.sparse.issparse(value):
        value = value.toarray()
    for part in value if isinstance(value, (list, tuple)) else (value,):
        # Turned into a plain array, a masked one would lose its mask without a word, and a quantity its unit.
        if isinstance(part, np.ndarray) and type(part) not in _PLAIN:
            raise ValueError(
                f"{name} must be a plain array, got a {type(part).__name__}, which means more than its numbers say: "
                f"fill what is masked, drop the unit, and pass a numpy.ndarray"
            )
    try:
        result = np.asarray(value)
    except Exception as error:  # of any kind: other libraries' arrays convert themselves
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from None
    if result.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be real numbers, got dtype {result.dtype} from a {type(value).__name__}: "
            f"convert it to an array of float64 first"
        )
    if result.dtype.kind == "f" and result.dtype.itemsize > 8:
        raise ValueError(f"{name} must have 64 bits or less, got dtype {result.dtype}: convert it to float64 first")
    return result.astype(result.dtype.newbyteorder("=") if result.dtype.kind == "f" else np.float64, copy=False)


def positive(name, value) -> float | Any:
    """Return ``value`` as a float, if it is finite and above zero."""
    number = _real(name, value)
    if not isinstance(number, Tracer) and not number > 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def nonnegative(name, value) -> float | Any:
    """Return ``value`` as a float, if it is finite and not below zero."""
    number = _real(name, value)
    if not isinstance(number, Tracer) and number < 0:
        raise ValueError(f"{name} must not be negative, got {number}")
    return number


def below_one(name, number: float) -> float:
    """Return a checked number, if it is below 1."""
    if number >= 1:
        raise ValueError(f"{name} must be below 1, got {number}")
    return number


def _real(name, value) -> float | Any:
    if isinstance(value, Tracer):
        return value
    # float() would also take True and "1.0".
    if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def count(name, value, minimum=1) -> int:
    """Return ``value`` as an int, if it is a whole number and at least ``minimum``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def seed(value) -> int:
    """Return ``value`` as an int, if it is a seed that every generator used here takes."""
    number = count("seed", value, minimum=0)
    if number >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {number}")
    return number


def choice(name, value, options):
    """Return ``options[value]``, or say which names there are."""
    if not isinstance(value, str) or value not in options:
        names = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {names}, got {value!r}")
    return options[value]


def times(name, value) -> np.ndarray:
    """Return a one-dimensional float64 array of times, finite and not negative."""
    result = np.atleast_1d(array(name, value)).astype(np.float64)
    if result.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {result.shape}")
    if (result < 0).any():
        raise ValueError(f"{name} must not be negative, got {result.min()}")
    return result


def counts(name, value) -> np.ndarray:
    """Return a one-dimensional integer array of step counts, not negative."""
    result = np.atleast_1d(np.asarray(value)) if times(name, value).size else np.empty(0, np.int64)
    if result.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, got {value!r}")
    if result.max(initial=0) >= 2**63:
        raise ValueError(f"{name} must be below 2**63, got {result.max()}")
    # Not by way of float64, which rounds whole numbers beyond 2^53 to even ones.
    return result.astype(np.int64)


def fits(what, numbers, instead):
    """Refuse an array of float64 numbers that takes half of the machine's memory: the system would kill the process.

    As much again is needed to compute it. Where the system does not say how much it has, everything fits.
    """
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return
    need, have = 8e-9 * numbers, 1e-9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have / 2:
        raise ValueError(f"{what} would take {need:,.0f} GB of {have:,.0f} GB of memory: {instead}")


def double_precision():
    """Refuse to compute while JAX is in its 32-bit mode: it would round every float64 array that it is given."""
    if jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise RuntimeError(
            "peerflow computes in float64, but JAX's 64-bit mode was turned off after peerflow was imported: "
            'turn it on again by jax.config.update("jax_enable_x64", True)'
        )


def instance(name, value, kind):
    """Return ``value``, if it is a ``kind``."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {type(value).__name__}")
    return value
