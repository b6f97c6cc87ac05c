"""Measuring at full size: bundles from random weights, their costs, and the graphs that measure a machine's rates."""
