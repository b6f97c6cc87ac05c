"""How close one run is to another: latents by relative L2, tokens by their equal share, pictures by PSNR and SSIM. What
is not finite is infinitely far."""

import math

import numpy as np

from ..errors import InputError

LEVELS = 255.0
TAPS, SIGMA = 11, 1.5
"""Window of SSIM: 11 x 11 pixels, weighted by a Gaussian."""
C1, C2 = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2


def relative_l2(actual: np.ndarray, expected: np.ndarray) -> float:
    """|actual - expected| / |expected|, Euclidean norms in float64; infinite where anything is NaN or infinite.

    Raises InputError for different shapes.
    """
    _check_shapes("latents", actual, expected)
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return math.inf
    norm = float(np.linalg.norm(expected.astype(np.float64)))
    distance = float(np.linalg.norm(actual.astype(np.float64) - expected))
    if distance == 0:
        return 0.0
    return distance / norm if norm else math.inf


def equal_share(actual: np.ndarray, expected: np.ndarray) -> float:
    """The share, 0 to 1, of equal tokens; raises InputError for different shapes."""
    _check_shapes("tokens", actual, expected)
    return float((actual == expected).mean())


def psnr(actual: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pictures, uint8 [H, W, 3], over all values; infinite for equal ones.

    Raises InputError for different shapes.
    """
    _check_shapes("picture", actual, expected)
    assert actual.dtype == expected.dtype == np.uint8, (actual.dtype, expected.dtype)
    error = float(((actual.astype(np.float64) - expected) ** 2).mean())
    return 10 * math.log10(LEVELS**2 / error) if error else math.inf


def ssim(actual: np.ndarray, expected: np.ndarray) -> float:
    """Mean structural similarity of pictures, uint8 [H, W, 3]: 1 for equal ones, about 0 for unrelated ones.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, with their window and constants, wherever the window lies wholly
    inside the picture. Each of red, green and blue by itself, then the mean, so that colours count as well. Raises
    InputError for different shapes and for pictures smaller than the window.
    """
    _check_shapes("picture", actual, expected)
    if min(actual.shape[:2]) < TAPS:
        height, width = actual.shape[:2]
        raise InputError(
            f"picture: expected at least {TAPS}x{TAPS} pixels to compare, got {height}x{width}; draw larger"
        )
    first, second = actual.astype(np.float64), expected.astype(np.float64)
    mean1, mean2 = _windowed(first), _windowed(second)
    variance1, variance2 = _windowed(first**2) - mean1**2, _windowed(second**2) - mean2**2
    covariance = _windowed(first * second) - mean1 * mean2
    alike = (2 * mean1 * mean2 + C1) * (2 * covariance + C2)
    return float((alike / ((mean1**2 + mean2**2 + C1) * (variance1 + variance2 + C2))).mean())


def _windowed(values: np.ndarray) -> np.ndarray:
    """Gaussian means over every whole window of [H, W, 3]: [H - 10, W - 10, 3]."""
    offsets = np.arange(TAPS) - TAPS // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = values.shape[0] - TAPS + 1, values.shape[1] - TAPS + 1
    rows = sum(weight * values[k : k + height] for k, weight in enumerate(weights))
    return sum(weight * rows[:, k : k + width] for k, weight in enumerate(weights))


def _check_shapes(what: str, actual: np.ndarray, expected: np.ndarray) -> None:
    if actual.shape != expected.shape:
        raise InputError(
            f"{what}: expected {list(expected.shape)} as fp32 drew it, got {list(actual.shape)}; export again"
        )
