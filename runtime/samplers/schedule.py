"""The noise schedule a model was trained with, and what its samplers need to know of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise schedule of Stable Diffusion v1 ("scaled linear" betas, epsilon prediction).

    `steps_offset` and `set_alpha_to_one` are diffusers' scheduler settings of the same name; the CompVis samplers
    ignore them. Timestep spacing is part of each sampler, not of the schedule.
    """

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def alphas_cumprod(self) -> np.ndarray:
        """Signal share of the variance after each training step: float32 [train_steps], computed as CompVis does."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps, dtype=np.float64) ** 2
        return np.cumprod(1.0 - betas).astype(np.float32)
