"""Scaling with antialias against torch's own."""

import numpy as np
import pytest
import torch
from x2i.runtime.media.clip_pixels import antialiased

from tests.numerics import assert_close

RNG = np.random.default_rng(7)
HALF_OR_MORE = [((260, 260), (224, 224)), ((241, 182), (224, 200)), ((97, 140), (224, 224)), ((1, 1), (5, 7))]
LESS = [((700, 3), (33, 64)), ((1500, 640), (224, 224))]


def peer(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    given = torch.from_numpy(planes.astype(np.float32))
    return torch.nn.functional.interpolate(given, size=size, mode="bilinear", antialias=True).numpy()


@pytest.mark.parametrize(("given", "wanted"), HALF_OR_MORE + LESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equal_to_torch(given, wanted, dtype):
    planes = RNG.integers(0, 256, (2, 3, *given)).astype(dtype)
    if dtype == np.float32:
        planes /= np.float32(255)
    result = antialiased(planes, *wanted)
    assert result.dtype == np.float32 and result.flags.c_contiguous
    # torch fuses the multiplication and the sum only where the processor can.
    assert_close(result, peer(planes, wanted), "antialias")
    if (given, wanted) in HALF_OR_MORE and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert_close(result, peer(planes, wanted), "exact")


def test_an_equal_size_changes_nothing():
    planes = RNG.random((3, 31, 17), np.float32)
    assert_close(antialiased(planes, 31, 17), planes, "exact")
