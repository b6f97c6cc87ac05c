"""An ONNX model of one node, the op, with the function that is its body."""

import onnx
from onnx import TensorProto, helper
from x2i.kernels.domain import ATTRIBUTES, DOMAIN, VERSION
from x2i.kernels.injected_attention.onnx_function import OPSET, function_proto
from x2i.kernels.injected_attention.op import NAME

from tests.kernels.cases import Case

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
INPUTS = ("query", "key", "value", "local_key", "local_value", "token_index", "strength")


def model(case: Case, dtype: str) -> bytes:
    """The serialized model, for any number of samples of the case's other sizes."""
    channels = case.heads * case.head_width
    lengths = (case.queries, case.tokens, case.tokens, case.local_tokens, case.local_tokens)
    floats = [
        helper.make_tensor_value_info(name, TYPES[dtype], ["samples", length, channels])
        for name, length in zip(INPUTS, lengths, strict=False)
    ]
    token_index = helper.make_tensor_value_info("token_index", TensorProto.INT64, ["samples"])
    strength = helper.make_tensor_value_info("strength", TensorProto.FLOAT, ["samples"])
    output = helper.make_tensor_value_info("output", TYPES[dtype], ["samples", case.queries, channels])
    attributes = {"num_heads": case.heads, "scale": case.head_width**-0.5} | ATTRIBUTES
    node = helper.make_node(NAME, INPUTS, ["output"], domain=DOMAIN, **attributes)
    graph = helper.make_graph([node], "one_node", [*floats, token_index, strength], [output])
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    made = helper.make_model(graph, opset_imports=versions, functions=[function_proto()], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    serialized: bytes = made.SerializeToString()
    return serialized
