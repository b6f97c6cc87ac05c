"""Samples as a caller gives them: the beginning of a sound, at its own rate, with what is wrong with them told."""

from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np

from .errors import InputError

RATES = (1_000, 768_000)
"""Hz, least and most: below, no sound is left; above, no recorder goes, and a header that says so is a broken one."""

MAX_CHANNELS = 8
"""7.1 surround."""

MARGIN = 0.5
"""Seconds taken beyond those that are heard, so that a resampler ends on samples and not on an edge."""


@dataclass(frozen=True, slots=True)
class Recording:
    """`samples` float32 [n, channels], about -1 to 1, at `rate` Hz; `seconds` is how long the whole sound is, of which
    they may be the beginning; `notes` are warnings, one line each."""

    samples: np.ndarray
    rate: int
    seconds: float
    notes: tuple[str, ...] = ()


def wanted_samples(seconds: float, rate: int) -> int:
    """How many samples are taken for so many seconds that are heard."""
    return ceil((seconds + MARGIN) * rate)


def record_array(samples: np.ndarray, rate: Any, seconds: float, where: str) -> Recording:
    """The beginning of samples [n] or [n, channels], float about -1 to 1, or int16 or int32; else InputError."""
    # A masked array's or a matrix' own rules are not followed.
    values = np.asarray(samples)
    floats = np.issubdtype(values.dtype, np.floating)
    if values.ndim not in (1, 2) or not (floats or values.dtype in (np.int16, np.int32)):
        raise InputError(
            f"{where}: expected samples [n] or [n, channels], float from -1 to 1 or int16, "
            f"got {values.dtype} {list(values.shape)}; convert the array"
        )
    hertz = _whole(rate, where)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) == 0:
        raise InputError(f"{where}: expected a sound, got an array without samples; give another")
    turned = len(values) <= MAX_CHANNELS < values.shape[1]
    check_kind(hertz, values.shape[1], where, "turn the array: [n, channels]" if turned else "mix it down to two")
    scale = 1.0 if floats else 2.0 ** (1 - 8 * values.dtype.itemsize)
    # What is too large for float32 becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        taken = (values[: wanted_samples(seconds, hertz)] * np.float64(scale)).astype(np.float32)
    return Recording(taken, hertz, len(values) / hertz)


def check_kind(rate: int, channels: int, where: str, fix: str = "mix it down to two") -> None:
    """Raises InputError for a rate outside RATES, or for no channels or more than MAX_CHANNELS."""
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{where}: expected a rate of {RATES[0]} to {RATES[1]} Hz, got {rate}; correct it, or record it again"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(f"{where}: expected 1 to {MAX_CHANNELS} channels, got {channels}; {fix}")


def _whole(rate: Any, where: str) -> int:
    whole = isinstance(rate, Integral) or (isinstance(rate, Real) and float(rate).is_integer())
    if not whole or isinstance(rate, bool):
        raise InputError(
            f"{where}: expected a rate in Hz, a whole number such as 44100, got {rate!r}; give the samples' own"
        )
    return int(rate)
