"""A graph at one set of input shapes: every tensor's shape and type, without reading a weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TypeProto, helper, inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ..errors import PlanError

LARGEST_FOLLOWED_NUMBERS = 256
"""Numbers in a tensor up to which its values are computed: enough for shapes and indices, too few for weights."""


@dataclass(frozen=True, slots=True)
class StaticTensor:
    """Shape and type of one tensor; `bytes` as it is stored, so that two 4-bit integers share one."""

    shape: tuple[int, ...]
    type: ir.DataType

    @property
    def bytes(self) -> int:
        """Its size as it is stored."""
        return int(prod(self.shape) * self.type.itemsize)


@dataclass(frozen=True, slots=True)
class StaticGraph:
    """Nodes in the order of execution, functions inlined; `constants` are the tensors whose values the file holds."""

    nodes: tuple[onnx.NodeProto, ...]
    tensors: dict[str, StaticTensor]
    constants: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def static_graph(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> StaticGraph:
    """The graph in a file at these input shapes; weights beside the file need not be there.

    Raises PlanError where a shape depends on more than the inputs' shapes.
    """
    model = onnx.load(path, load_external_data=False)
    weights = _set_weights_aside(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    walk = _Walk(model, {**shapes, **{name: tensor.shape for name, tensor in weights.items()}})
    for node in model.graph.node:
        walk.follow(node)
    if walk.unknown:
        raise PlanError(
            f"{path}: expected shapes that follow from those of the inputs ({dict(shapes)}), got none for "
            f"{len(walk.unknown)} nodes, the first {walk.unknown[0]}; export the bundle again"
        )
    constants = frozenset(weights) | {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in weights)
    outputs = tuple(value.name for value in model.graph.output)
    return StaticGraph(tuple(model.graph.node), walk.tensors(), constants, inputs, outputs)


def _set_weights_aside(model: onnx.ModelProto) -> dict[str, StaticTensor]:
    """Makes inputs of all constants but the small ones."""
    weights = {}
    for tensor in [*model.graph.initializer]:
        if prod(tensor.dims) > LARGEST_FOLLOWED_NUMBERS or tensor.data_location == onnx.TensorProto.EXTERNAL:
            weights[tensor.name] = StaticTensor(tuple(tensor.dims), ir.DataType(tensor.data_type))
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
            model.graph.initializer.remove(tensor)
    return weights


class _Walk:
    """Follows types, shapes and small values from node to node."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]):
        self._opsets = list(model.opset_import)
        self._versions = {opset.domain: opset.version for opset in model.opset_import}
        self._types: dict[str, TypeProto] = {}
        self._values: dict[str, np.ndarray] = {}
        self.unknown: list[str] = []
        for value in model.graph.input:
            kind = value.type.tensor_type.elem_type
            self._types[value.name] = helper.make_tensor_type_proto(kind, shapes[value.name])
        for tensor in model.graph.initializer:
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._values[tensor.name] = numpy_helper.to_array(tensor)

    def tensors(self) -> dict[str, StaticTensor]:
        return {name: StaticTensor(_shape(kind), _element_type(kind)) for name, kind in self._types.items()}

    def follow(self, node: onnx.NodeProto) -> None:
        read = [name for name in node.input if name]
        if any(name not in self._types for name in read):
            return
        if node.op_type == "Shape":
            self._measure(node)
            return
        schema = onnx.defs.get_schema(node.op_type, self._versions[node.domain], node.domain)
        data = {name: numpy_helper.from_array(self._values[name], name) for name in read if name in self._values}
        types = {name: self._types[name] for name in read}
        made = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._opsets)
        for name in filter(None, node.output):
            if name in made and _is_static(made[name]):
                self._types[name] = made[name]
            else:
                self.unknown.append(f"{node.op_type} {node.name}")
        few = all(prod(_shape(made[name])) <= LARGEST_FOLLOWED_NUMBERS for name in node.output if name in made)
        if few and self._values.keys() >= set(read):
            self._compute(node, read)

    def _measure(self, node: onnx.NodeProto) -> None:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        shape = _shape(self._types[node.input[0]])[attributes.get("start", 0) : attributes.get("end")]
        self._keep(node.output[0], np.asarray(shape, np.int64))

    def _compute(self, node: onnx.NodeProto, read: list[str]) -> None:
        feeds = {name: self._values[name] for name in read}
        results = ReferenceEvaluator(node).run(None, feeds)
        for name, result in zip(node.output, results, strict=True):
            self._keep(name, np.asarray(result))

    def _keep(self, name: str, value: np.ndarray) -> None:
        self._values[name] = value
        self._types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _shape(kind: TypeProto) -> tuple[int, ...]:
    return tuple(side.dim_value for side in kind.tensor_type.shape.dim)


def _element_type(kind: TypeProto) -> ir.DataType:
    return ir.DataType(kind.tensor_type.elem_type)


def _is_static(kind: TypeProto) -> bool:
    sides = kind.tensor_type.shape.dim
    return kind.tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in sides)
