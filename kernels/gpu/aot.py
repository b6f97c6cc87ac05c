"""Ahead-of-time compilation of the kernels with Triton, which needs no GPU."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import online_softmax
from .cubins import Cubin
from .kernel_op import KernelOp, padded_width

NOTHING: Mapping[str, float | None] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Compiled:
    """One pass as machine code and as PTX, the text it was assembled from."""

    cubin: Cubin
    ptx: str


def compile_pass(
    op: KernelOp,
    kernel: str,
    target: str,
    dtype: str,
    head_width: int,
    fixed: Mapping[str, float | None] = NOTHING,
    handed: Sequence[str] = (),
) -> Compiled:
    """One of the op's passes for a target, a dtype of the op and a head width.

    An argument in `fixed` becomes a constant of the code, and is no argument of the launch. So does, with None, a
    tensor that is neither input nor scratch of the op, unless `handed` names it.
    """
    function = getattr(_triton_module(op), kernel)
    cut = op.tile(kernel, dtype, head_width)
    sizes = {"HEAD_WIDTH": head_width, "WIDTH": padded_width(head_width), "ROWS": cut.rows, "COLUMNS": cut.columns}
    passed = {*op.inputs, *op.lengths, *op.scratch(1, 1, 1), "heads", "scale", "output", *handed}
    absent = {name: None for name in function.arg_names if name not in passed}
    constants: dict[str, Any] = {**absent, **fixed, **sizes}
    signature = {
        name: "constexpr" if name in constants else op.argument_type(name, dtype) for name in function.arg_names
    }
    tensors = [place for place, name in enumerate(signature) if _is_aligned(op, name, signature[name])]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={(function.arg_names.index(name),): value for name, value in constants.items()},
        attrs={(place,): [["tt.divisibility", 16]] for place in tensors},
    )
    options = {"num_warps": cut.warps, "num_stages": cut.stages, "enable_fp_fusion": True}
    with triton.knobs.compilation.scope():
        # Line tables are three quarters of the size, and name the folders of the machine that compiles.
        triton.knobs.compilation.disable_line_info = True
        compiled = triton.compile(source, GPUTarget("cuda", int(target.removeprefix("sm_")), 32), options)
    image: bytes = compiled.asm["cubin"]
    cubin = Cubin(
        kernel=kernel,
        target=target,
        dtype=dtype,
        head_width=head_width,
        symbol=compiled.metadata.name,
        arguments=tuple((name, kind) for name, kind in signature.items() if kind != "constexpr"),
        rows=cut.rows,
        columns=cut.columns,
        warps=cut.warps,
        shared=compiled.metadata.shared,
        source=source_digest(op),
        sha256=hashlib.sha256(image).hexdigest(),
        image=image,
    )
    return Compiled(cubin, compiled.asm["ptx"])


def source_digest(op: KernelOp) -> str:
    """SHA-256 of what an op's compiled passes depend on beside their own fields: sources, tiles, Triton's version."""
    files = [str(module.__file__) for module in (online_softmax, _triton_module(op))]
    tiles = {kernel: {size: asdict(tile) for size, tile in tiles.items()} for kernel, tiles in op.tiles.items()}
    settings = repr((tiles, triton.__version__)).encode()
    return hashlib.sha256(b"".join([*(Path(file).read_bytes() for file in files), settings])).hexdigest()


def _triton_module(op: KernelOp) -> ModuleType:
    return import_module(op.triton_module)


def _is_aligned(op: KernelOp, name: str, kind: str) -> bool:
    """Whether a pointer is one that a launch finds at a multiple of 16 bytes: those of the query's type are."""
    return kind.startswith("*") and name not in op.types
