"""What the ops share as ahead-of-time Python plugins of full TensorRT (`tensorrt.plugin`): PTX inside the engine, and
no Python.

Such a plugin is one kernel without a workspace, so a node of ours becomes several. Written to TensorRT 11's
documentation and not run: unlike the plugin of plugin.py it has seen no engine, and whether TensorRT grants the kernels
more than 48 KiB of shared memory (heads of more than 128 channels) is not documented.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..domain import DOMAIN
from ..errors import KernelError
from .aot import NOTHING, compile_pass
from .kernel_op import KernelOp

Split = Callable[[onnx.NodeProto, Mapping[str, Any]], Iterable[onnx.NodeProto]]
"""From a node and its attributes to the nodes in its place."""


def replace_nodes(model: onnx.ModelProto, name: str, split: Split) -> onnx.ModelProto:
    """The model with other nodes in the place of every node `name` of our domain, and without its function."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.functions[:]
    for node in model.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, name):
            given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            made.graph.node.extend(split(node, given))
        else:
            made.graph.node.append(node)
    made.functions.extend(
        function for function in model.functions if (function.domain, function.name) != (DOMAIN, name)
    )
    return made


def without_scratch(ptx: str) -> str:
    """Triton's PTX less the two pointers that end its parameters: they are never read, and TensorRT passes none."""
    parameter = r"\s*\.param [^,()]+"
    shorter, count = re.subn(rf",{parameter},{parameter}\)", "\n)", ptx, count=1)
    assert count == 1
    return shorter


def ahead_of_time(
    trtp: Any,
    op: KernelOp,
    kernel: str,
    target: str,
    query: Any,
    key: Any,
    num_heads: int,
    scale: npt.NDArray[np.float32],
    fixed: Mapping[str, float | None] = NOTHING,
    handed: Sequence[str] = (),
) -> tuple[str, str, Any, Any]:
    """One pass as `aot_impl` returns it, its scalars after its inputs and before its outputs, as TensorRT wants it.

    `fixed` and `handed` are those of `compile_pass`.
    """
    dtype = {"HALF": "float16", "BF16": "bfloat16", "FLOAT": "float32"}.get(query.dtype.name, query.dtype.name)
    if dtype not in op.dtypes:
        raise KernelError(
            f"{op.name}: expected {' or '.join(op.dtypes)}, got {dtype}; build without splitting the nodes"
        )
    constants = {"scale": float(scale[0]), **fixed}
    made = compile_pass(op, kernel, target, dtype, query.shape[2] // num_heads, constants, handed)
    samples, queries, keys = query.shape_expr[0], query.shape_expr[1], key.shape_expr[1]
    launch = trtp.KernelLaunchParams()
    launch.grid_x, launch.grid_y = trtp.cdiv(queries, made.cubin.rows), samples * num_heads
    launch.block_x, launch.shared_mem = 32 * made.cubin.warps, made.cubin.shared
    scalars = trtp.SymIntExprs.from_tuple((trtp.SymInt32(num_heads), trtp.SymInt32(queries), trtp.SymInt32(keys)))
    return made.cubin.symbol, without_scratch(made.ptx), launch, scalars
