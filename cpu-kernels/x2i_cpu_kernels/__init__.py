"""The compiled kernel beside this file, with its record; `x2i.kernels.cpu_attention.library` finds and checks it."""
