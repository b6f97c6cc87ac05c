"""The Session contract: the loop cannot tell which library runs a graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..manifest import Tensor


class Session(Protocol):
    """One opened graph. Calling it takes every input by name and returns every output by name.

    Arrays are C-contiguous with the dtype and shape that `inputs` says; free sizes are names.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]: ...


def open_session(backend: str, path: Path, threads: int | None = None) -> Session:
    """Opens a graph file on a backend; `threads` limits the CPU threads of one call (None: all cores).

    Raises InputError for an unknown backend; another is never chosen instead.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    return BACKENDS[backend](path, threads)


def _open_cpu(path: Path, threads: int | None) -> Session:
    from .onnxruntime_cpu import OnnxRuntimeSession

    return OnnxRuntimeSession(path, threads)


BACKENDS: dict[str, Callable[[Path, int | None], Session]] = {"cpu": _open_cpu}
