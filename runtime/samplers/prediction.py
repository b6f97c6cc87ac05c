"""What a model's output says of clean latents and of noise, whatever it was trained to predict."""

import math
from dataclasses import dataclass

import numpy as np

from .schedule import PredictionType, Schedule
from .settings import SamplerSettings


@dataclass(frozen=True, slots=True)
class Prediction:
    """Reads outputs of a model that sees latents of variance 1: x = signal * clean + noise_level * noise.

    signal^2 + noise_level^2 = 1. `clip` bounds the clean latents; `threshold` (share, most) bounds them by a quantile
    of each picture's own (dynamic thresholding; Saharia et al. 2022, arXiv 2205.11487), and stands before `clip`.
    """

    kind: PredictionType
    clip: float | None = None
    threshold: tuple[float, float] | None = None

    @classmethod
    def of(cls, schedule: Schedule, settings: SamplerSettings) -> "Prediction":
        """The reading that a schedule and a sampler's settings ask for."""
        return cls(
            schedule.prediction_type,
            settings.clip_sample_range if settings.clip_sample else None,
            (settings.dynamic_thresholding_ratio or 0.0, settings.sample_max_value or 1.0)
            if settings.thresholding
            else None,
        )

    @property
    def limits(self) -> bool:
        """Whether clean latents are bounded."""
        return self.clip is not None or self.threshold is not None

    def clean(self, x: np.ndarray, output: np.ndarray, signal: float, noise_level: float) -> np.ndarray:
        """The clean latents, bounded; float32 [B, C, h, w] like both arrays."""
        if self.kind == "sample":
            found = output
        elif self.kind == "v_prediction":
            found = signal * x - noise_level * output
        else:
            found = (x - noise_level * output) / signal
        return self.bounded(found)

    def noise(self, x: np.ndarray, output: np.ndarray, signal: float, noise_level: float) -> np.ndarray:
        """The noise, not touched by any bound."""
        if self.kind == "sample":
            return (x - signal * output) / noise_level
        if self.kind == "v_prediction":
            return signal * output + noise_level * x
        return output

    def bounded(self, clean: np.ndarray) -> np.ndarray:
        """Clean latents within the bounds."""
        if self.threshold is not None:
            share, most = self.threshold
            flat = np.abs(clean).reshape(len(clean), -1)
            bound = np.clip(np.quantile(flat, share, axis=1), 1, most).astype(np.float32)
            bound = bound.reshape(-1, *[1] * (clean.ndim - 1))
            return np.clip(clean, -bound, bound) / bound
        return clean if self.clip is None else np.clip(clean, -self.clip, self.clip)


def levels(sigma: float) -> tuple[float, float]:
    """(signal, noise_level) of latents with `sigma` of noise per unit of signal, scaled to variance 1."""
    signal = 1 / math.sqrt(sigma**2 + 1)
    return signal, sigma * signal


def alpha_levels(alpha: float) -> tuple[float, float]:
    """(signal, noise_level) at a cumulative alpha."""
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def transfer(x: np.ndarray, noise: np.ndarray, alpha: float, alpha_next: float) -> np.ndarray:
    """`x` moved from one cumulative alpha to another while its noise and clean latents stay what they are.

    The DDIM step with eta 0 (Song et al. 2020, arXiv 2010.02502, equation 12) and PNDM's transfer (Liu et al. 2022,
    arXiv 2202.09778, equation 9) are this same map.
    """
    keep = math.sqrt(alpha_next / alpha)
    return keep * x + (math.sqrt(1 - alpha_next) - keep * math.sqrt(1 - alpha)) * noise
