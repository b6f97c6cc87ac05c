"""Stable Diffusion v1 as torch modules, from whichever layout it was published in."""
