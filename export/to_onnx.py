"""Traces a component to an ONNX file whose types are those of its tensors."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .component import Component

OPSET = 20
"""Read by ONNX Runtime, OpenVINO and TensorRT 10.x alike."""

EXTERNAL_DATA_BYTES = 1 << 30
"""Weights above this leave the ONNX file, which protobuf limits to 2 GB."""

MAX_BATCH = 63
"""diffusers' upsampler branches at a batch of 64; the bound only keeps the trace on one side, the graph takes more."""


def to_onnx(component: Component, path: Path, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
    """Writes the graph to `path`, and its weights to `path` + ".data" when they are large."""
    inputs = component.example(component.trace)
    names = {name for axes in component.free.values() for name in axes.values()}
    sizes = {name: torch.export.Dim(name, max=MAX_BATCH if name == "batch" else None) for name in sorted(names)}
    dynamic = tuple({axis: sizes[name] for axis, name in component.free.get(key, {}).items()} for key in inputs)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            component.module,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[component.output],
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    weights = sum(p.numel() * p.element_size() for p in component.module.parameters())
    program.save(path, external_data=weights > external_data_bytes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tracer's notes about optional packages and guards off the user's terminal; errors still raise."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)
