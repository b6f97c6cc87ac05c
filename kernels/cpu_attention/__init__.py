"""Attention on the CPU: a kernel for AVX-512, as an operation of OpenVINO, and how it comes into a model."""
