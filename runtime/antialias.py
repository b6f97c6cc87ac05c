"""Bilinear scaling with antialias as torch's `interpolate` computes it on a CPU.

To the bit where sides shrink to no less than half, which the order of float32's sums decides beyond. Pillow's own
filter of that name sums in double precision, and then rounds some half levels the other way.
"""

import numpy as np


def scaled(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """[..., H, W] of uint8 or float32 to float32 [..., height, width]; half-pixel centres, no rounding, no clamping."""
    narrowed = _scaled_rows(planes, width)
    return np.ascontiguousarray(np.swapaxes(_scaled_rows(np.swapaxes(narrowed, -1, -2), height), -1, -2))


def _scaled_rows(planes: np.ndarray, length: int) -> np.ndarray:
    places, weights = _taps(planes.shape[-1], length)
    total = np.zeros((*planes.shape[:-1], length), np.float32)
    for place, weight in zip(places, weights, strict=True):
        # torch multiplies and adds in one rounding; a product of two float32 is exact in double precision.
        total = (planes[..., place] * weight.astype(np.float64) + total).astype(np.float32)
    return total


def _taps(given: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For every wanted pixel the given pixels it is the mean of, and their weights, both [taps, wanted]."""
    half = np.float32(0.5)
    scale = np.float32(given) / np.float32(wanted)
    reach = max(scale, np.float32(1))
    centres = scale * (np.arange(wanted, dtype=np.float32) + half)
    first = np.maximum((centres - reach + half).astype(np.int64), 0)
    end = np.minimum((centres + reach + half).astype(np.int64), given)
    places = first + np.arange((end - first).max())[:, None]
    distances = np.abs((places.astype(np.float32) - centres + half) * (np.float32(1) / reach))
    weights = np.where(places < end, np.maximum(1 - distances, np.float32(0)), np.float32(0))
    return np.minimum(places, given - 1), weights / np.add.accumulate(weights)[-1]
