"""The Session contract: the loop cannot tell which library runs a graph."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..bundle.manifest import Tensor


@dataclass(frozen=True, slots=True)
class GraphFile:
    """An ONNX file and what a backend must know beside it.

    `precision` is the manifest's name of it; `digest` the SHA-256 over the graph and its external data, empty where it
    was not taken; `engines` the folder that keeps the bundle's engines, None where there is no bundle; `inputs` and
    `outputs` are the manifest's, empty where there is none; `bytes` are those of the graph and its external data, and
    `looped` says that every step of a run calls it, both where a bundle's manifest tells.
    """

    name: str
    path: Path
    precision: str = "fp32"
    digest: str = ""
    engines: Path | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    bytes: int = 0
    looped: bool = False


Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to open a graph: CPU threads of one call (None: all cores), and the backend's own name of a device."""

    threads: int | None = None
    device: str = ""


class Session(Protocol):
    """One opened graph. Calling it takes every input by name and returns every output by name.

    Arrays are C-contiguous with the dtype and shape that `inputs` says; free sizes are names.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __call__(self, **arrays: np.ndarray) -> Outputs: ...

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        """The session with some inputs given once for many calls: a device keeps them in its own memory."""
        ...
