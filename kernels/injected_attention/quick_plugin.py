"""The op as ahead-of-time Python plugins of full TensorRT (`tensorrt.plugin`): PTX inside the engine, and no Python.

Such a plugin is one kernel without a workspace, so `split_nodes` makes three nodes of one: the first pass, the maximum
of its columns, the second pass. Written to TensorRT 11's documentation and not run: unlike the plugin of plugin.py it
has seen no engine, and whether TensorRT grants the kernels more than 48 KiB of shared memory (heads of more than 128
channels) is not documented.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..errors import KernelError
from .aot import compile_pass
from .op import ATTRIBUTES, DOMAIN, NAME

GLOBAL, LOCAL = f"{NAME}Global", f"{NAME}Local"


def split_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every injected attention as nodes that `register_ahead_of_time` has plugins for."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    axes = helper.make_tensor(f"{NAME}_axes", onnx.TensorProto.INT64, [2], [1, 2])
    nodes = [part for node in model.graph.node for part in (_split(node, axes.name) if _is_ours(node) else [node])]
    del made.graph.node[:], made.functions[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.append(axes)
    made.functions.extend(
        function for function in model.functions if (function.domain, function.name) != (DOMAIN, NAME)
    )
    return made


def register_ahead_of_time(target: str) -> None:
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
        return _compiled(trtp, "global_pass", target, query, key, num_heads, scale, peaks=None)

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
        return _compiled(trtp, "local_pass", target, query, local_key, num_heads, scale)


def without_scratch(ptx: str) -> str:
    """Triton's PTX less the two pointers that end its parameters: they are never read, and TensorRT passes none."""
    parameter = r"\s*\.param [^,()]+"
    shorter, count = re.subn(rf",{parameter},{parameter}\)", "\n)", ptx, count=1)
    assert count == 1
    return shorter


def _compiled(
    trtp: Any,
    kernel: str,
    target: str,
    query: Any,
    key: Any,
    num_heads: int,
    scale: npt.NDArray[np.float32],
    **fixed: None,
) -> tuple[str, str, Any, Any]:
    """One pass as `aot_impl` returns it, its scalars after its inputs and before its outputs, as TensorRT wants it."""
    dtype = {"HALF": "float16", "BF16": "bfloat16"}.get(query.dtype.name)
    if dtype is None:
        raise KernelError(f"{NAME}: expected float16 or bfloat16, got {query.dtype}; build without splitting the nodes")
    head_width = query.shape[2] // num_heads
    made = compile_pass(kernel, target, dtype, head_width, in_place=False, scale=float(scale[0]), **fixed)
    samples, queries, keys = query.shape_expr[0], query.shape_expr[1], key.shape_expr[1]
    launch = trtp.KernelLaunchParams()
    launch.grid_x, launch.grid_y = trtp.cdiv(queries, made.cubin.rows), samples * num_heads
    launch.block_x, launch.shared_mem = 32 * made.cubin.warps, made.cubin.shared
    scalars = trtp.SymIntExprs.from_tuple((trtp.SymInt32(num_heads), trtp.SymInt32(queries), trtp.SymInt32(keys)))
    return made.cubin.symbol, without_scratch(made.ptx), launch, scalars


def _is_ours(node: onnx.NodeProto) -> bool:
    return (node.domain, node.op_type) == (DOMAIN, NAME)


def _split(node: onnx.NodeProto, axes: str) -> Iterator[onnx.NodeProto]:
    query, key, value, local_key, local_value, token_index, strength = node.input
    output = node.output[0]
    attended, columns, peaks = (f"{output}_{name}" for name in ("attended", "columns", "peaks"))
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes = {"num_heads": given["num_heads"], "scale": [given["scale"]], **ATTRIBUTES}
    inputs = [query, key, value, token_index]
    yield helper.make_node(GLOBAL, inputs, [attended, columns], domain=DOMAIN, **attributes)
    yield helper.make_node("ReduceMax", [columns, axes], [peaks], keepdims=0)
    inputs = [query, local_key, local_value, token_index, strength, attended, columns, peaks]
    yield helper.make_node(LOCAL, inputs, [output], domain=DOMAIN, **attributes)
