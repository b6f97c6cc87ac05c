"""Contexts made of several weighted texts and pictures, as M-VADER composes them (arXiv 2212.02936)."""
