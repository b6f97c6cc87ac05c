"""One small graph that every backend must be able to run, in float32 and float16, and what comes out of it.

A convolution, a sigmoid with a product, a matrix product and a softmax: the kinds of work that all systems are made of.
Its files hold no weights, for these are inputs: `trial_fp16.onnx` casts them, and its result back.
"""

from pathlib import Path

import numpy as np

from ..session import Arrays, GraphFile, Outputs

FOLDER = Path(__file__).parent
CHANNELS, SIDE, WINDOW = 4, 8, 3
OUTPUT = "weights"
GATES = {"fp32": 1e-4, "fp16": 2e-2}
"""The largest error of a backend that computes rightly, of the reference's largest number. A GPU's float32 may keep ten
bits of a product's factors (TF32), its float16 the same and sums besides: 0.0005 each, over products of 36 and 8."""


def trial_graph(precision: str = "fp32") -> GraphFile:
    """The graph in `fp32` or `fp16`."""
    return GraphFile("trial", FOLDER / f"trial_{precision}.onnx", precision)


def trial_inputs() -> Arrays:
    """Its inputs: float32 of a fixed seed."""
    random = np.random.default_rng(7)
    shapes = {
        "picture": (1, CHANNELS, SIDE, SIDE),
        "kernel": (CHANNELS, CHANNELS, WINDOW, WINDOW),
        "matrix": (SIDE, SIDE),
    }
    return {name: random.normal(size=shape).astype(np.float32) * np.float32(0.5) for name, shape in shapes.items()}


def trial_reference() -> np.ndarray:
    """What comes out: float64 [1, CHANNELS, SIDE, SIDE], rows of weights that add up to one."""
    picture, kernel, matrix = (array.astype(np.float64) for array in trial_inputs().values())
    padded = np.pad(picture[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(1, 2))
    made = np.einsum("chwij,ocij->ohw", windows, kernel)
    scores = made / (1 + np.exp(-made)) @ matrix
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True))[None]


def trial_error(outputs: Outputs) -> float:
    """The largest difference from the reference, of its largest number; not a number where something came out that is
    none."""
    expected = trial_reference()
    return float(np.abs(outputs[OUTPUT] - expected).max() / expected.max())
