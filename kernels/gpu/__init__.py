"""What our operators' kernels for GPUs share: how they are described, compiled, launched, and put into engines."""
