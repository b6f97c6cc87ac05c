"""The Session contract: the loop cannot tell which library runs a graph."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


Arrays = dict[str, np.ndarray]
Outputs = Arrays
BoundCall = Callable[..., Outputs]
"""A session, or one with some inputs bound: takes the rest by name."""


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

    def bind(self, **arrays: np.ndarray) -> BoundCall:
        """The session with some inputs given once for many calls: a device keeps them in its own memory."""
        ...


class UnboundSession:
    """A base for sessions without memory of their own, whose bound calls only keep the arrays for later.

    A subclass gives `__call__`, which takes every input by name and returns every output by name.
    """

    def __init__(self, inputs: tuple[Tensor, ...] = (), outputs: tuple[Tensor, ...] = ()):
        self.inputs, self.outputs = inputs, outputs

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        raise NotImplementedError

    def bind(self, **arrays: np.ndarray) -> BoundCall:
        """The session with some inputs given once for many calls."""
        return partial(self, **arrays)


class SessionWrapper:
    """A Session around another, `wrapped`, which does what it wraps. A subclass overrides `around` to see the calls."""

    def __init__(self, wrapped: Session):
        self.inputs, self.outputs = wrapped.inputs, wrapped.outputs
        self.wrapped = wrapped

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        """One call of the wrapped session, which is `call(**rest)`; the inputs `bound` were given to `call` before."""
        return call(**rest)

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return self.around(self.wrapped, {}, arrays)

    def bind(self, **arrays: np.ndarray) -> BoundCall:
        """The wrapped session with these inputs bound, each of whose calls goes through `around`."""
        call = self.wrapped.bind(**arrays)
        return lambda **rest: self.around(call, arrays, rest)
