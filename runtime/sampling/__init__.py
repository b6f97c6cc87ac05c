"""Noise schedules and samplers, as diffusers and the systems' authors run them."""
