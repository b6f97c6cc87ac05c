"""The fused attentions' plugins for TensorRT: the room above this one has them, so they are found by name."""

import hashlib
import mmap
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from ..errors import InputError

PLUGINS = "x2i.plugins"
"""Entry-point group: `tensorrt` is called with the TensorRT module and a folder of compiled kernels, or with None,
`openvino` and `openvino-attention` as OpenVINO is set up."""
OPERATORS = ("InjectedAttention", "BiasedAttention")
"""The nodes that there are kernels for."""
PRECISIONS = ("fp16", "int8+fp16")
"""Of graphs whose attention is in float16: the kernels are written for nothing wider."""
OPTION = "plugin"
"""The name in an engine's options under which an engine that holds a plugin keeps the digest of its kernels."""
_INDEX = "index.json"


def register_plugin(tensorrt: ModuleType, kernels: Path | None = None) -> None:
    """Makes the plugins known to `tensorrt` or `tensorrt_rtx`: with compiled kernels to build, without to run.

    Raises InputError where a plugin, or a kernel, cannot be used.
    """
    found = list(entry_points(group=PLUGINS, name="tensorrt"))
    if not found:
        raise InputError("the attentions' plugins are not installed; pip install --force-reinstall --no-deps x2i-edge")
    try:
        found[0].load()(tensorrt, kernels)
    except ValueError as error:
        raise InputError(*str(error).splitlines()) from error


def has_operator(path: Path) -> bool:
    """Whether a graph's file holds one of the operators; their names stand there as they are."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(operator.encode()) >= 0 for operator in OPERATORS)


def kernels_digest(folder: Path) -> str:
    """SHA-256 of the index of compiled kernels, which has that of each; raises InputError where there is none."""
    index = folder / _INDEX
    if not index.is_file():
        raise InputError(
            f"--kernels {folder}: expected compiled kernels with {_INDEX}, found none; make them with "
            f"`python -m x2i.kernels.build --out {folder}`"
        )
    return hashlib.sha256(index.read_bytes()).hexdigest()
