"""Graphs to store the weights of, small ones and those of a bundle, and how they are run and read."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime.bundle.reader import open_bundle


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The graph as it is written: the optimizer would round what the weights are multiplied with as well."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options).run(None, inputs)


def proof(bundle: Path, name: str) -> tuple[Path, dict[str, np.ndarray], list[np.ndarray]]:
    """A graph's file, and its proof: inputs, and fp32 torch's outputs."""
    opened = open_bundle(bundle, check_files=False)
    graph = opened.manifest.graphs[name]
    arrays = {key: np.load(opened.path(file), allow_pickle=False) for key, file in graph.proof.items()}
    inputs = {tensor.name: arrays[tensor.name] for tensor in graph.inputs}
    return opened.path(graph.file), inputs, [arrays[tensor.name] for tensor in graph.outputs]


def constants(path: Path) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in ir.load(path).graph.initializers.items()}


def product() -> onnx.NodeProto:
    return helper.make_node("MatMul", ["x", "weight"], ["y"])


def save(path: Path, nodes: list, weights: dict[str, np.ndarray], given: list[int], made: list[int], kind: int = 1):
    """A graph x -> y."""
    x = helper.make_tensor_value_info("x", kind, given)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, made)
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
