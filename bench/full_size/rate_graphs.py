"""The small graphs by which a machine's rates are measured: one matrix product, in float32 or with eight bits."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION, SIDE = 20, 10, 1024


def float_product() -> onnx.ModelProto:
    """`product` = `left` @ `right`, float32, both inputs."""
    nodes = [helper.make_node("MatMul", ["left", "right"], ["product"])]
    return _model("matmul", nodes, ["left", "right"], [])


def eight_bit_product() -> onnx.ModelProto:
    """The same as a quantized layer is written; its weights are one number spread out when the graph is opened, so that
    the file stays small."""
    constants: dict[str, np.ndarray] = {
        "scale": np.array(1 / 64, np.float32),
        "middle": np.array(128, np.uint8),
        "zero": np.array(0, np.int8),
        "weight": np.full((1, 1), 3, np.int8),
        "sides": np.array([SIDE, SIDE], np.int64),
    }
    nodes = [
        helper.make_node("Expand", ["weight", "sides"], ["weights"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["right"]),
        helper.make_node("QuantizeLinear", ["left", "scale", "middle"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "middle"], ["rounded"]),
        helper.make_node("MatMul", ["rounded", "right"], ["product"]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return _model("matmul_int8", nodes, ["left"], initializers)


def _model(
    name: str, nodes: list[onnx.NodeProto], inputs: list[str], initializers: list[onnx.TensorProto]
) -> onnx.ModelProto:
    def square(tensor: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [SIDE, SIDE])

    graph = helper.make_graph(nodes, name, [square(tensor) for tensor in inputs], [square("product")], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
