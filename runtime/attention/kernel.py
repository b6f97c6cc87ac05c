"""The kernel for attention on the CPU, where it is installed: what it is asked, and why it cannot be used."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Protocol

from ..engines.plugin import PLUGINS
from ..errors import EngineWarning
from ..machine import cpu_flags

PLUGIN = "openvino-attention"
"""Entry point that gives the kernel for models of OpenVINO."""
OPERATION = "CpuAttention"
"""The type of the kernel's nodes, which OpenVINO counts among its references."""
NODE_PREFIX = f"{OPERATION}/"
"""What the kernel's nodes are called, before the name of the node whose place they took."""


class Sizes(Protocol):
    """Sizes of one attention; None where a model leaves them free. `work` counts its multiplications."""

    batch: int | None
    heads: int
    queries: int | None
    keys: int | None
    width: int
    work: int | None


class Kernel(Protocol):
    """The kernel, ready for models of OpenVINO."""

    extension: str
    source: str

    def replace(
        self, model: Any, products: str, bf16: bool, wanted: Callable[[Sizes], bool]
    ) -> tuple[list[Sizes], list[Sizes]]:
        """Takes the place of attention in a model where `wanted` says so; sizes of those replaced, and of those
        left."""
        ...


@dataclass(frozen=True, slots=True)
class Present:
    """The kernel, or why there is none: `refused` where one is there that cannot be used."""

    kernel: Kernel | None = None
    why: str = ""
    refused: bool = False


def present_kernel() -> Present:
    """The kernel of this process; one that is there and refused is told once, by an EngineWarning."""
    found = quiet_kernel()
    if found.refused:
        _warn(found.why)
    return found


@cache
def quiet_kernel() -> Present:
    """The kernel of this process, for who tells himself what is wrong with it."""
    if find_spec("openvino") is None:
        return Present(why="needs the package openvino; pip install 'x2i-edge[openvino]'")
    plugins = list(entry_points(group=PLUGINS, name=PLUGIN))
    if not plugins:
        return Present(why="x2i-edge's own plugin is not installed; pip install --force-reinstall --no-deps x2i-edge")
    try:
        return Present(plugins[0].load()(cpu_flags()))
    except LookupError as error:
        return Present(why=str(error))
    except (ImportError, OSError, RuntimeError) as error:
        return Present(why=f"openvino or the kernel cannot be opened: {str(error).partition(chr(10))[0]}", refused=True)
    except ValueError as error:
        return Present(why="; ".join(str(error).splitlines()), refused=True)


@cache
def _warn(why: str) -> None:
    warnings.warn(f"attention: OpenVINO's own runs, since the kernel cannot: {why}", EngineWarning, stacklevel=2)
