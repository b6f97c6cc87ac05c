"""Where a denoiser's graph holds what later calls may reuse: found by the paths of the modules it was traced from."""

import re

import onnx_ir as ir
from x2i.runtime.variants import CROSS, deep

from ..precision.part_names import path_of

JOIN = re.compile(r"(^|\.)up_blocks\.\d+\.[^.]+$")
"""An operation of an up block itself, not of a layer in it: where the block joins a skip connection."""
CROSS_ATTENTION = re.compile(r"(?:^|\.)((?:down_blocks|mid_block|up_blocks)\..*)\.attn2\.")


def features(model: ir.Model) -> dict[str, ir.Value]:
    """Every feature by its name: `deep.1` is what meets the last skip connection from below, `deep.2` the one before;
    `cross.LAYER` is what a cross-attention layer adds."""
    return {**_deep(model), **_cross(model)}


def _deep(model: ir.Model) -> dict[str, ir.Value]:
    joins = [node for node in model.graph if node.op_type == "Concat" and JOIN.search(path_of(node))]
    return {deep(depth): _unquantized(node.inputs[0]) for depth, node in enumerate(reversed(joins), 1)}


def _cross(model: ir.Model) -> dict[str, ir.Value]:
    found: dict[str, ir.Value] = {}
    for node in model.graph:
        if matched := CROSS_ATTENTION.search(path_of(node)):
            # The last node of a layer stays.
            found[f"{CROSS}.{matched[1]}"] = node.outputs[0]
    return found


def _unquantized(value: ir.Value | None) -> ir.Value:
    """The value before it was quantized: behind that point it would be lost to the layers that take int8."""
    assert value is not None
    producer = value.producer()
    while producer is not None and producer.op_type in ("DequantizeLinear", "QuantizeLinear"):
        value = producer.inputs[0]
        assert value is not None
        producer = value.producer()
    return value
