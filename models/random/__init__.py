"""Whole systems with random weights, at full size for measuring and tiny for tests."""
