"""Ahead-of-time compilation of the two passes with Triton, which needs no GPU."""

import hashlib
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import triton_kernel
from .cubins import DTYPES, Cubin
from .op import kernel_tile, padded_width

_TYPES = {
    "token_index": "*i64",
    "strength": "*fp32",
    "columns": "*fp32",
    "peaks": "*fp32",
    "heads": "i32",
    "queries": "i32",
    "tokens": "i32",
    "local_tokens": "i32",
    "scale": "fp32",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """One pass as machine code and as PTX, the text it was assembled from."""

    cubin: Cubin
    ptx: str


def compile_pass(
    kernel: str, target: str, dtype: str, head_width: int, in_place: bool = True, **fixed: float | None
) -> Compiled:
    """`global_pass` or `local_pass` for one target, dtype and head width.

    In place, the local pass adds to what the first has written, and has no argument `attended`. An argument in `fixed`
    becomes a constant of the code, and is no argument of the launch either.
    """
    function = getattr(triton_kernel, kernel)
    cut = kernel_tile(kernel, head_width)
    if in_place and kernel == "local_pass":
        fixed = {"attended": None, **fixed}
    sizes = {"HEAD_WIDTH": head_width, "WIDTH": padded_width(head_width), "ROWS": cut.rows, "COLUMNS": cut.columns}
    constants: dict[str, Any] = {**fixed, **sizes}
    signature = {
        name: "constexpr" if name in constants else _TYPES.get(name, f"*{DTYPES[dtype]}") for name in function.arg_names
    }
    tensors = [place for place, kind in enumerate(signature.values()) if kind == f"*{DTYPES[dtype]}"]
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
        source=source_digest(kernel, head_width),
        sha256=hashlib.sha256(image).hexdigest(),
        image=image,
    )
    return Compiled(cubin, compiled.asm["ptx"])


def source_digest(kernel: str, head_width: int) -> str:
    """SHA-256 of what a compiled pass depends on beside its own fields: the source, the tile and Triton's version."""
    source = Path(triton_kernel.__file__).read_bytes()
    settings = repr((astuple(kernel_tile(kernel, head_width)), triton.__version__))
    return hashlib.sha256(source + settings.encode()).hexdigest()
