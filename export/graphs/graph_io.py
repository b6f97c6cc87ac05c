"""Graphs on disk as the passes read and write them: weights stay in their file until the moment they are written."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from x2i.runtime.files.onnx_weights import weight_places
from x2i.runtime.files.staging import staging_folder

SHARED_BYTES = 1024
"""Of a weight that is read from another graph's file; smaller ones are written again."""


class HardlinkedTensor(ir.ExternalTensor):
    """Read when it is needed, from below `base_dir` alone."""

    def _check_path_containment(self) -> None:
        home, path = Path(self.base_dir).resolve(), Path(self.path).resolve()
        if not path.is_relative_to(home):
            raise ValueError(f"{self.name}: expected weights in {home}, got {path}")


def read_hardlinked(graph: ir.Graph, folder: Path) -> None:
    """Lets every weight that lies in a file of its own be read from `folder`, whatever other names the file has."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = HardlinkedTensor(
                tensor.location,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=tensor.name or "",
                base_dir=folder,
            )


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new constant of the graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def remove_initializer(graph: ir.Graph, value: ir.Value) -> None:
    """Drops a constant that nothing reads any more."""
    assert not value.uses() and value.name is not None
    graph.initializers.pop(value.name)


EXTERNAL_DATA_BYTES = 1 << 30
"""Weights above this leave the ONNX file, which protobuf limits to 2 GB."""


def read_graph(path: Path) -> ir.Model:
    """The model in the order of execution, with a type on every value, its constants as initializers, and external
    weights not yet read."""
    model = ir.load(path)
    read_hardlinked(model.graph, path.parent)
    model.graph.sort()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if any(value.dtype is None for node in model.graph for value in node.outputs if value.name):
        common.ShapeInferencePass()(model)
    return model


def refer_to_weights(graph: ir.Graph, source: Path) -> None:
    """Lets every weight but the smallest of the graph's own file be read from there, and none be written again."""
    places = weight_places(source, SHARED_BYTES)
    for value in graph.initializers.values():
        place = places.get(value.name or "")
        tensor = value.const_value
        if place is None or tensor is None or isinstance(tensor, ir.ExternalTensor):
            continue
        value.const_value = HardlinkedTensor(
            source.name,
            place.offset,
            place.length,
            tensor.dtype,
            shape=tensor.shape,  # type: ignore[arg-type]
            name=value.name or "",
            base_dir=source.parent,
        )


def write_beside(model: ir.Model, path: Path) -> None:
    """Writes the model in the order of execution, and refers to weights that lie in a file beside `path` already."""
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
    with staging_folder(path.parent, "writing") as folder:
        ir.save(model, folder / path.name, external_data=external_data)
        for written in sorted(folder.iterdir(), reverse=True):
            written.replace(path.parent / written.name)
