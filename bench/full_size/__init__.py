"""Bundles of full size from random weights, and what they cost."""
