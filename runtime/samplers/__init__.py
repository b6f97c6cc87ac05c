"""Noise schedules and samplers, as diffusers and the systems' authors run them."""

from .registry import make_sampler
from .schedule import Schedule

__all__ = ["Schedule", "make_sampler"]
