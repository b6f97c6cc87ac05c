"""The Session contract: the loop cannot tell which library runs a graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..manifest import Tensor

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
