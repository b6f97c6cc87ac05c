"""The op as ahead-of-time Python plugins of full TensorRT: the first pass, the maximum of its columns, the second pass.

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
from .op import INJECTED, NAME

GLOBAL, LOCAL = f"{NAME}Global", f"{NAME}Local"


def split_injected(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every injected attention as nodes that `register_injected` has plugins for."""
    return replace_nodes(model, NAME, _split)


def register_injected(target: str) -> None:
    """Makes both plugins known to TensorRT, for engines on GPUs of `target` (sm_89) or newer."""
    import tensorrt.plugin as trtp
    from tensorrt import DataType

    launch = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]

    @trtp.register(f"{DOMAIN}::{GLOBAL}")
    def describe_global(
        query: trtp.TensorDesc,
        key: trtp.TensorDesc,
        value: trtp.TensorDesc,
        token_index: trtp.TensorDesc,
        num_heads: int,
        scale: npt.NDArray[np.float32],
    ) -> tuple[trtp.TensorDesc, trtp.TensorDesc]:
        columns = query.like()
        columns.dtype = DataType.FLOAT
        samples, queries = query.shape_expr[0], query.shape_expr[1]
        columns.shape_expr = trtp.ShapeExprs.from_tuple((samples, num_heads, queries))
        return query.like(), columns

    @trtp.autotune(f"{DOMAIN}::{GLOBAL}")
    def types_of_global(query, key, value, token_index, outputs) -> list[trtp.AutoTuneCombination]:  # type: ignore[no-untyped-def]
        half = "FP16|BF16"
        return [trtp.AutoTuneCombination(", ".join([half, half, half, "INT64", half, "FP32"]), "LINEAR")]

    @trtp.aot_impl(f"{DOMAIN}::{GLOBAL}")
    def compile_global(query, key, value, token_index, num_heads, scale, outputs, tactic) -> launch:  # type: ignore
        return ahead_of_time(trtp, INJECTED, "global_pass", target, query, key, num_heads, scale, {"peaks": None})

    @trtp.register(f"{DOMAIN}::{LOCAL}")
    def describe_local(
        query: trtp.TensorDesc,
        local_key: trtp.TensorDesc,
        local_value: trtp.TensorDesc,
        token_index: trtp.TensorDesc,
        strength: trtp.TensorDesc,
        attended: trtp.TensorDesc,
        columns: trtp.TensorDesc,
        peaks: trtp.TensorDesc,
        num_heads: int,
        scale: npt.NDArray[np.float32],
    ) -> trtp.TensorDesc:
        return query.like()

    @trtp.autotune(f"{DOMAIN}::{LOCAL}")
    def types_of_local(  # type: ignore[no-untyped-def]
        query, local_key, local_value, token_index, strength, attended, columns, peaks, outputs
    ) -> list[trtp.AutoTuneCombination]:
        half = "FP16|BF16"
        types = [half, half, half, "INT64", "FP32", half, "FP32", "FP32", half]
        return [trtp.AutoTuneCombination(", ".join(types), "LINEAR")]

    @trtp.aot_impl(f"{DOMAIN}::{LOCAL}")
    def compile_local(  # type: ignore[no-untyped-def]
        query,
        local_key,
        local_value,
        token_index,
        strength,
        attended,
        columns,
        peaks,
        num_heads,
        scale,
        outputs,
        tactic,
    ) -> launch:
        given = (trtp, INJECTED, "local_pass", target, query, local_key, num_heads, scale)
        return ahead_of_time(*given, handed=("attended",))


def _split(node: onnx.NodeProto, given: Mapping[str, Any]) -> Iterator[onnx.NodeProto]:
    query, key, value, local_key, local_value, token_index, strength = node.input
    output = node.output[0]
    attended, columns, axes, peaks = (f"{output}_{name}" for name in ("attended", "columns", "axes", "peaks"))
    attributes = {"num_heads": given["num_heads"], "scale": [given["scale"]], **ATTRIBUTES}
    inputs = [query, key, value, token_index]
    yield helper.make_node(GLOBAL, inputs, [attended, columns], domain=DOMAIN, **attributes)
    yield helper.make_node("Constant", [], [axes], value_ints=[1, 2])
    yield helper.make_node("ReduceMax", [columns, axes], [peaks], keepdims=0)
    inputs = [query, local_key, local_value, token_index, strength, attended, columns, peaks]
    yield helper.make_node(LOCAL, inputs, [output], domain=DOMAIN, **attributes)
