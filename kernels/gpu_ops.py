"""All operators of ours with kernels for GPUs, and as TensorRT is given them."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from .biased_attention.op import BIASED
from .gpu.cubins import Cubin, read_cubins
from .gpu.plugin import register_plugins
from .injected_attention.op import INJECTED

GPU_OPS = (INJECTED, BIASED)


def register_ops(tensorrt: ModuleType, kernels: Iterable[Cubin] = ()) -> None:
    """Makes the operators known to `tensorrt` or `tensorrt_rtx`: with `kernels` to build engines, without to run them.

    Raises KernelError as `gpu.plugin.register_plugins` does.
    """
    register_plugins(tensorrt, GPU_OPS, kernels)


def register_compiled(tensorrt: ModuleType, folder: Path | None = None) -> None:
    """`register_ops` with the compiled kernels of a folder; to run engines, none is needed."""
    register_ops(tensorrt, () if folder is None else read_cubins(folder))
