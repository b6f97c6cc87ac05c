"""Whole runs of every system on a provider for GPUs, beside the same on the CPU: `make webgpu`."""
