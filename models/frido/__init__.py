"""Frido: latents drawn from coarse to fine (arXiv 2208.13753)."""
