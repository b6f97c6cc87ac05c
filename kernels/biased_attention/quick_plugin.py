"""The op as ahead-of-time Python plugins of full TensorRT: the statistics of the scores, and the attention.

`gpu.quick_plugin` says what such plugins are, and that no engine has run these.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..domain import ATTRIBUTES, DOMAIN
from ..gpu.quick_plugin import ahead_of_time, replace_nodes
from .op import BIASED, NAME, PART_FACTS, PART_ROWS

STATISTICS, RAISED = f"{NAME}Statistics", f"{NAME}Raised"


def split_biased(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every biased attention as nodes that `register_biased` has plugins for."""
    return replace_nodes(model, NAME, _split)


def register_biased(target: str) -> None:
    """Makes both plugins known to TensorRT, for engines on GPUs of `target` (sm_89) or newer."""
    import tensorrt.plugin as trtp
    from tensorrt import DataType

    launch = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]

    @trtp.register(f"{DOMAIN}::{STATISTICS}")
    def describe_statistics(
        query: trtp.TensorDesc,
        key: trtp.TensorDesc,
        gain_max: trtp.TensorDesc,
        gain_deviation: trtp.TensorDesc,
        num_heads: int,
        scale: npt.NDArray[np.float32],
    ) -> trtp.TensorDesc:
        parts = query.like()
        parts.dtype = DataType.FLOAT
        samples, queries = query.shape_expr[0], query.shape_expr[1]
        counted = trtp.cdiv(queries, PART_ROWS) * num_heads
        parts.shape_expr = trtp.ShapeExprs.from_tuple((samples, PART_FACTS, counted))
        return parts

    @trtp.autotune(f"{DOMAIN}::{STATISTICS}")
    def types_of_statistics(query, key, gain_max, gain_deviation, outputs) -> list[trtp.AutoTuneCombination]:  # type: ignore[no-untyped-def]
        any_of = "FP32|FP16|BF16"
        return [trtp.AutoTuneCombination(f"{any_of}, {any_of}, FP32, FP32, FP32", "LINEAR")]

    @trtp.aot_impl(f"{DOMAIN}::{STATISTICS}")
    def compile_statistics(query, key, gain_max, gain_deviation, num_heads, scale, outputs, tactic) -> launch:  # type: ignore
        return ahead_of_time(trtp, BIASED, "statistics_pass", target, query, key, num_heads, scale)

    @trtp.register(f"{DOMAIN}::{RAISED}")
    def describe_raised(
        query: trtp.TensorDesc,
        key: trtp.TensorDesc,
        value: trtp.TensorDesc,
        bias: trtp.TensorDesc,
        gain_max: trtp.TensorDesc,
        gain_deviation: trtp.TensorDesc,
        key_bias: trtp.TensorDesc,
        parts: trtp.TensorDesc,
        num_heads: int,
        scale: npt.NDArray[np.float32],
    ) -> trtp.TensorDesc:
        return query.like()

    @trtp.autotune(f"{DOMAIN}::{RAISED}")
    def types_of_raised(  # type: ignore[no-untyped-def]
        query, key, value, bias, gain_max, gain_deviation, key_bias, parts, outputs
    ) -> list[trtp.AutoTuneCombination]:
        any_of = "FP32|FP16|BF16"
        return [trtp.AutoTuneCombination(", ".join([*[any_of] * 3, *["FP32"] * 5, any_of]), "LINEAR")]

    @trtp.aot_impl(f"{DOMAIN}::{RAISED}")
    def compile_raised(  # type: ignore[no-untyped-def]
        query, key, value, bias, gain_max, gain_deviation, key_bias, parts, num_heads, scale, outputs, tactic
    ) -> launch:
        return ahead_of_time(trtp, BIASED, "raised_pass", target, query, key, num_heads, scale)


def _split(node: onnx.NodeProto, given: Mapping[str, Any]) -> Iterator[onnx.NodeProto]:
    query, key, _, _, gain_max, gain_deviation, _ = node.input
    parts = f"{node.output[0]}_parts"
    attributes = {"num_heads": given["num_heads"], "scale": [given["scale"]], **ATTRIBUTES}
    inputs = [query, key, gain_max, gain_deviation]
    yield helper.make_node(STATISTICS, inputs, [parts], domain=DOMAIN, **attributes)
    yield helper.make_node(RAISED, [*node.input, parts], list(node.output), domain=DOMAIN, **attributes)
