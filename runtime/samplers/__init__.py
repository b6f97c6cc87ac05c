"""Samplers of diffusion models in numpy: each walks noise to latents in its own number of model calls."""

from .registry import SAMPLERS, make_sampler
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule

__all__ = ["SAMPLERS", "Denoise", "Draw", "Sampler", "Schedule", "make_sampler"]
