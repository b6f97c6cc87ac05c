"""Every random number of a run, drawn here from the caller's seed and nowhere else."""

import numpy as np


class Noise:
    """Standard-normal draws for `count` pictures; picture k is drawn from `seed + k`.

    So a picture does not depend on how many are drawn with it, and the k-th of a batch can be had alone.
    """

    def __init__(self, seed: int, count: int, shape: tuple[int, int, int]):
        self._generators = [np.random.Generator(np.random.PCG64(seed + k)) for k in range(count)]
        self._shape = shape

    def __call__(self) -> np.ndarray:
        """float32 [count, channels, height, width]."""
        return np.stack([g.standard_normal(self._shape, np.float32) for g in self._generators])
