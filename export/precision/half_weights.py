"""Weights in float16: how they are rounded, and which lose too much by it."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

LARGEST = 65504.0
"""The largest float16."""

LIKE_INFINITY = 1e30
"""A finite number above this stands for infinity: attention masks are filled with the lowest float32."""

ROUNDING_LIMIT = 2.0**-10
"""Relative error of a rounded weight above which it stays in float32.

Rounding to eleven bits costs at most 2^-11 of each number and 2^-12.6 of a weight's norm. More than twice the first
means numbers past 65504, or so many below 6e-5 that the subnormals' fixed step shows.
"""


CHUNK = 1 << 24
"""Numbers that are worked on at once, since a word embedding alone may be a gigabyte."""


def as_half(weight: np.ndarray) -> np.ndarray:
    """float16 of a weight; what stands for infinity becomes the largest float16, which no sum of masks turns to NaN."""
    half = np.empty(weight.shape, np.float16)
    for numbers, target in _chunks(weight, half):
        stands_in = np.isfinite(numbers) & (np.abs(numbers) > LIKE_INFINITY)
        with np.errstate(over="ignore"):
            target[:] = np.where(stands_in, np.copysign(np.float32(LARGEST), numbers), numbers)
    return half


def rounding_error(weight: np.ndarray) -> float:
    """|as_half(weight) - weight| / |weight| over the numbers that are none for infinity; inf where one overflows."""
    error = norm = 0.0
    for (numbers,) in _chunks(weight):
        numbers = numbers[np.abs(numbers) <= LIKE_INFINITY]
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16).astype(np.float32)
        error += float(np.square(half - numbers, dtype=np.float64).sum())
        norm += float(np.square(numbers, dtype=np.float64).sum())
    return float(np.sqrt(error / (norm or 1.0)))


def _chunks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, CHUNK):
        yield tuple(array[start : start + CHUNK] for array in flat)


def half_tensor(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """A weight that is read and rounded when it is written, so that a file of any size passes through memory once."""
    return _lazy(tensor, name, ir.DataType.FLOAT16, as_half)


def rounded_tensor(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """The same in float32, of the values that float16 has."""
    return _lazy(tensor, name, ir.DataType.FLOAT, lambda weight: as_half(weight).astype(np.float32))


def _lazy(
    tensor: ir.TensorProtocol, name: str, kind: ir.DataType, change: Callable[[np.ndarray], np.ndarray]
) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(change(tensor.numpy()), name=name),
        dtype=kind,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )
