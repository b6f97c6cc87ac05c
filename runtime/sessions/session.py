"""The Session contract: the loop cannot tell which library runs a graph."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ..bundle.calls import Tensor, shapes_agree
from ..errors import InputError, one_line, reason


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
"""Inputs of a call, by the names of the graph's."""
Outputs = Arrays
"""What a call returns, by the names of the graph's outputs."""
BoundCall = Callable[..., Outputs]
"""A session, or one with some inputs bound: takes the rest by name."""
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a graph's inputs by their names."""


MOST_THREADS = 1024
"""CPU threads of one call."""


ATTENTIONS = ("auto", "library", "bf16", "int8")
"""Attention on the CPU: the kernel where it is there, faster, and no less precise than the graph; the session library's
own; the kernel with products of queries and keys in this type."""
KERNEL_ATTENTIONS = ("bf16", "int8")
ATTENTION_VARIABLE = "X2I_ATTENTION"
"""Environment variable that names the attention where the caller does not."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to open a graph: CPU threads of one call (None: all cores), one of ATTENTIONS (None: what the environment
    says, else `auto`), the backend's own name of a device, and whether the CPU may run what a provider of ONNX Runtime
    does not take of a graph."""

    threads: int | None = None
    attention: str | None = None
    device: str = ""
    rest_on_cpu: bool = False


def checked_attention(name: object, where: str = "attention") -> str | None:
    """One of ATTENTIONS as a caller names it, None where none is named; raises InputError for another."""
    if name is not None and name not in ATTENTIONS:
        raise InputError(f"{where}: expected one of {', '.join(ATTENTIONS)}, got {str(name)[:40]!r}")
    return None if name is None else str(name)


class Session(Protocol):
    """One opened graph. Calling it takes every input by name and returns every output by name.

    Arrays are C-contiguous with the dtype and shape that `inputs` says; free sizes are names. A call raises InputError
    for arrays that the library refuses, and where it fails, as for want of memory.
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


@contextmanager
def library_edge(refusal: Callable[[str], InputError]) -> Iterator[None]:
    """Turns whatever a session library raises into `refusal(reason)`.

    The libraries raise errors of their own, Python's for what their bindings refuse, and C++'s where these have no
    counterpart: no list of them holds from release to release.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise refusal(_said(error)) from error


_ORT_CODE = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ", re.DOTALL)
_ORT_PLACE = re.compile(
    r"(?:^|(?<=[ :]))/?[\w./-]+\.(?:cc|h|hpp):\d+ "
    r"(?:[\w:<>&*,~ ]*::~?\w+(?:<[^()]*>)?\((?:[^()]|\([^()]*\))*\)(?: const)? |\w+(?:::\w+)* )?"
)
"""A file of its sources, and the function there with the types of its arguments."""


def _said(error: BaseException) -> str:
    """What a library says, without the places in its sources that it says it from."""
    line = reason(error)
    if line.startswith("too little memory"):
        return line
    return one_line(_ORT_PLACE.sub("", _ORT_CODE.sub("", str(error).strip())).strip().partition("\n")[0] or line)


def check_tensors(graph: GraphFile, session: Session) -> None:
    """Raises InputError where the tensors of an opened graph are not those that the manifest tells."""
    problems = []
    for kind, listed, there in (
        ("input", graph.inputs, session.inputs),
        ("output", graph.outputs, session.outputs),
    ):
        known = {tensor.name: tensor for tensor in there}
        names = sorted(known.keys() ^ {tensor.name for tensor in listed})
        problems += [f"{kind} {name}: in one of the two alone" for name in names]
        problems += [
            f"{kind} {one.name}: expected {one.dtype} {list(one.shape)}, got {known[one.name].dtype} "
            f"{list(known[one.name].shape)}"
            for one in listed
            if one.name in known and not _same(one, known[one.name])
        ]
    if problems and (graph.inputs or graph.outputs):
        raise InputError(
            *(f"{graph.path}: the graph is not what the manifest says: {one}; export it again" for one in problems)
        )


def _same(listed: Tensor, there: Tensor) -> bool:
    return listed.dtype == there.dtype and shapes_agree(listed.shape, there.shape)


def call_error(library: str, inputs: Iterable[Tensor], arrays: Mapping[str, np.ndarray], reason: str) -> InputError:
    """What to raise where a library refused a call for `reason`: the inputs that are wrong, or else all shapes.

    `inputs` are those that `arrays` ought to be.
    """
    inputs = tuple(inputs)
    names = {tensor.name for tensor in inputs}
    problems = [f"{name}: expected an input of the graph, got another name" for name in sorted(arrays.keys() - names)]
    for tensor in inputs:
        expected = f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
        array = arrays.get(tensor.name)
        if array is None:
            problems.append(f"{tensor.name}: expected {expected}, got nothing")
        elif not isinstance(array, np.ndarray):
            problems.append(f"{tensor.name}: expected {expected}, got {type(array).__name__}")
        elif not _fits(array, tensor):
            problems.append(f"{tensor.name}: expected {expected}, got {array.dtype} {list(array.shape)}")
    if problems:
        return InputError(*(f"{problem}; give every input as the session's `inputs` say" for problem in problems))
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    return InputError(f"{library} failed on {shapes}: {reason}; try a smaller size or count")


def _fits(array: np.ndarray, tensor: Tensor) -> bool:
    """Whether an array has the tensor's dtype and fixed sizes."""
    if array.dtype != tensor.dtype or array.ndim != len(tensor.shape):
        return False
    return all(isinstance(size, str) or size == actual for size, actual in zip(tensor.shape, array.shape, strict=True))
