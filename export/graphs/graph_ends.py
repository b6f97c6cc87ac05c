"""Gives an ONNX graph the inputs and outputs that its caller knows, by nodes at its ends; what is between stays."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ..errors import PlanError

Nodes = Callable[[str, str], list[NodeProto]]
"""The nodes that make the second tensor from the first."""
_ALIGNMENT = 4096
"""Bytes to which external data is aligned, so that a session can map it into memory."""


def replace_input(graph: GraphProto, old: str, new: ValueInfoProto, nodes: Nodes | None = None) -> None:
    """Puts the input `new` in the place of `old`, which `nodes` make from it; without them they are one."""
    place = next(number for number, value in enumerate(graph.input) if value.name == old)
    del graph.input[place]
    graph.input.insert(place, new)
    inner = new.name if nodes is None else unused(graph, f"{old}.inside")
    _rename_uses(graph, old, inner)
    for number, node in enumerate([] if nodes is None else nodes(new.name, inner)):
        graph.node.insert(number, node)


def close_input(graph: GraphProto, old: str, inside: str, nodes: list[NodeProto]) -> None:
    """Takes the input `old` away; what read it reads `inside`, which `nodes` make of other inputs and constants."""
    graph.input.remove(next(value for value in graph.input if value.name == old))
    _rename_uses(graph, old, inside)
    for number, node in enumerate(nodes):
        graph.node.insert(number, node)


def replace_output(graph: GraphProto, old: str, new: ValueInfoProto, nodes: Nodes | None = None) -> None:
    """Puts the output `new` in the place of `old`, from which `nodes` make it; without them they are one."""
    place = next(number for number, value in enumerate(graph.output) if value.name == old)
    del graph.output[place]
    graph.output.insert(place, new)
    if nodes is not None:
        graph.node.extend(nodes(old, new.name))
        return
    _rename_uses(graph, old, new.name)
    for node in graph.node:
        node.output[:] = [new.name if name == old else name for name in node.output]


def unused(graph: GraphProto, name: str) -> str:
    """The name, numbered where the graph has a tensor of it."""
    taken = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    taken |= {tensor for node in graph.node for tensor in (*node.input, *node.output)}
    names = (name if number == 0 else f"{name}.{number}" for number in count())
    return next(one for one in names if one not in taken)


def keep_outputs(graph: GraphProto, names: set[str]) -> None:
    """Drops the outputs that nobody reads; what made them is left to the session to remove."""
    for value in [value for value in graph.output if value.name not in names]:
        graph.output.remove(value)


def read_proto(path: Path) -> ModelProto:
    """The model without its external data; raises PlanError for a file that holds none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise PlanError(f"{path}: expected an ONNX graph, got a damaged file; export it again") from error


def write_proto(model: ModelProto, sources: dict[str, Path], target: Path) -> None:
    """Writes the model, and the external data it refers to, `sources` by location, into one file beside it."""
    tensors = list(_external(model.graph))
    if tensors:
        data = target.with_name(target.name + ".data")
        starts = _gather(sources, data)
        for tensor in tensors:
            entries = {entry.key: entry for entry in tensor.external_data}
            start = starts[entries["location"].value]
            offset = int(entries["offset"].value) if "offset" in entries else 0
            entries["location"].value = data.name
            if "offset" not in entries:
                entries["offset"] = tensor.external_data.add(key="offset")
            entries["offset"].value = str(start + offset)
    onnx.save(model, target)


def external_files(model: ModelProto, folder: Path) -> dict[str, Path]:
    """The files of a model's external data by the location that its tensors name."""
    found = {entry.value for tensor in _external(model.graph) for entry in tensor.external_data if _is_location(entry)}
    return {location: folder / location for location in sorted(found)}


def _gather(sources: dict[str, Path], target: Path) -> dict[str, int]:
    """Copies files one behind the other; returns where each starts."""
    starts: dict[str, int] = {}
    with target.open("wb") as stream:
        for location, path in sources.items():
            stream.seek(-(-stream.tell() // _ALIGNMENT) * _ALIGNMENT)
            starts[location] = stream.tell()
            with path.open("rb") as data:
                while chunk := data.read(1 << 24):
                    stream.write(chunk)
    return starts


def _external(graph: GraphProto) -> Iterator[TensorProto]:
    return (tensor for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL)


def _is_location(entry: onnx.StringStringEntryProto) -> bool:
    return bool(entry.key == "location")


def _rename_uses(graph: GraphProto, old: str, new: str) -> None:
    """In the graph and in the bodies of its loops and branches."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename_uses(body, old, new)
