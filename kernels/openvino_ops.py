"""All operators of ours as OpenVINO is given them."""

from openvino.frontend.onnx import ConversionExtension

from .biased_attention.openvino_op import biased_extension
from .injected_attention.openvino_op import extension


def extensions() -> list[ConversionExtension]:
    """What an openvino.Core must be given before it reads a graph that holds one of them."""
    return [extension(), biased_extension()]
