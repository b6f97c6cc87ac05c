"""The op for OpenVINO, built from its operators, as `injected_attention.openvino_op` builds its own."""

import numpy as np
from openvino import Node, Output, Type
from openvino import opset13 as ops
from openvino.frontend import NodeContext
from openvino.frontend.onnx import ConversionExtension

from ..domain import DOMAIN
from ..injected_attention.openvino_op import head_split, whole_numbers
from .op import INPUTS, NAME


def biased_extension() -> ConversionExtension:
    """What an openvino.Core must be given before it reads a graph that holds the op."""
    return ConversionExtension(NAME, DOMAIN, _convert)


def _convert(node: NodeContext) -> list[Output]:
    query, key, value, bias, gain_max, gain_deviation, key_bias = (node.get_input(i) for i in range(len(INPUTS)))
    q, k, v = (head_split(tensor, node.get_attribute("num_heads")) for tensor in (query, key, value))
    scale = ops.convert_like(ops.constant(np.float32(node.get_attribute("scale"))), query)
    scores = ops.convert(ops.matmul(ops.multiply(q, scale), k, False, True), Type.f32)
    rise = ops.add(
        ops.multiply(_per_sample(gain_max), ops.reduce_max(scores, whole_numbers(1, 2, 3), keep_dims=True)),
        ops.multiply(_per_sample(gain_deviation), _deviation(scores)),
    )
    raised = ops.add(scores, ops.multiply(ops.unsqueeze(bias, whole_numbers(1)), rise))
    raised = ops.add(raised, ops.unsqueeze(key_bias, whole_numbers(1, 2)))
    probabilities = ops.convert_like(ops.softmax(raised, -1), v)
    out = ops.transpose(ops.matmul(probabilities, v, False, False), whole_numbers(0, 2, 1, 3))
    return ops.reshape(out, whole_numbers(0, 0, -1), special_zero=True).outputs()


def _per_sample(gain: Output) -> Node:
    return ops.reshape(gain, whole_numbers(-1, 1, 1, 1), special_zero=False)


def _deviation(scores: Node) -> Node:
    """Each sample's standard deviation, with a divisor of one less than their number."""
    centred = ops.subtract(scores, ops.reduce_mean(scores, whole_numbers(1, 2, 3), keep_dims=True))
    spread = ops.reduce_mean(ops.multiply(centred, centred), whole_numbers(1, 2, 3), keep_dims=True)
    sizes = ops.gather(ops.shape_of(scores), whole_numbers(1, 2, 3), np.int64(0))
    count = ops.convert(ops.reduce_prod(sizes, np.int64(0), keep_dims=False), Type.f32)
    return ops.sqrt(ops.multiply(spread, ops.divide(count, ops.subtract(count, np.float32(1)))))
