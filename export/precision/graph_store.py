"""Graphs on disk as the passes read and write them: weights stay in their file until the moment they are written."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir
from onnx_ir.passes import common

from .linked_weights import read_linked

EXTERNAL_DATA_BYTES = 1 << 30
"""Weights above this leave the ONNX file, which protobuf limits to 2 GB."""


def read_graph(path: Path) -> ir.Model:
    """The model in the order of execution, with a type on every value, its constants as initializers, and external
    weights not yet read."""
    model = ir.load(path)
    read_linked(model.graph, path.parent)
    model.graph.sort()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if any(value.dtype is None for node in model.graph for value in node.outputs if value.name):
        common.ShapeInferencePass()(model)
    return model


def write_variant(model: ir.Model, path: Path) -> None:
    """Writes the model in the order of execution; weights in a file beside `path` stay there, and are shared."""
    model.graph.sort()
    _write_whole(model, path, None)


def write_graph(model: ir.Model, path: Path, external_above: int | None = None) -> None:
    """Writes the model in the order of execution, and its weights to `path` + ".data" when they are large.

    Large is above `external_above` bytes, EXTERNAL_DATA_BYTES unless given. Neither is ever there half-written.
    """
    model.graph.sort()
    tensors = [value.const_value for value in model.graph.initializers.values()]
    most = EXTERNAL_DATA_BYTES if external_above is None else external_above
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) > most
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor) and not large:
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    _write_whole(model, path, f"{path.name}.data" if large else None)


def _write_whole(model: ir.Model, path: Path, external_data: str | None) -> None:
    with TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        ir.save(model, Path(folder) / path.name, external_data=external_data)
        for written in sorted(Path(folder).iterdir(), reverse=True):
            written.replace(path.parent / written.name)
