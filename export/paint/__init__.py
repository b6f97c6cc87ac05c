"""Variants of a bundle's denoiser that take painted words as inputs."""
