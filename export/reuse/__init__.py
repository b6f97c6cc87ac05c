"""Variants of a denoiser that reuse what earlier calls computed."""
