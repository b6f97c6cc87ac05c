"""The backends by name, best first, and how a graph is opened on one of them.

A backend's library is imported when its first session is opened, or when it is asked whether it can be used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import InputError
from .session import GraphFile, Session, Settings

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Backend:
    """One library that runs graphs.

    `present` tells whether it is installed, without importing it; `problem(graph, settings)` why it cannot be used on
    this machine, or for that graph, in one line with the fix: None when it can. `prepared` tells whether a graph has an
    engine that spares its memory, for these shapes of its inputs or, without, for any.
    """

    present: Callable[[], bool]
    problem: Callable[[GraphFile | None, Settings], str | None]
    open: Callable[[GraphFile, Settings], Session]
    prepared: Callable[[GraphFile, Shapes | None], bool] = lambda graph, shapes: False


def backend_named(spec: str) -> tuple[str, Backend, str]:
    """Name, backend and device of a `--backend` such as `cpu` or `openvino:GPU`; raises InputError if unknown."""
    name, _, device = spec.partition(":")
    if name not in BACKENDS:
        raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got {spec!r}")
    if device and name != "openvino":
        raise InputError(f"backend: expected a device behind openvino alone, as in openvino:GPU, got {spec!r}")
    return name, BACKENDS[name], device


def on_cpu(spec: str) -> bool:
    """Whether a backend computes on the CPU, in the memory of the process."""
    name, _, device = spec.partition(":")
    return name == "cpu" or (name == "openvino" and device.upper() in ("", "CPU"))


def open_session(backend: str, graph: GraphFile, threads: int | None = None) -> Session:
    """Opens a graph on a backend; `threads` limits the CPU threads of one call (None: all cores).

    Raises InputError for an unknown backend and for one that cannot be used here; another is never chosen instead.
    """
    check_backend(backend, graph, threads)
    _, found, device = backend_named(backend)
    return found.open(graph, Settings(threads, device))


def check_backend(backend: str, graph: GraphFile | None = None, threads: int | None = None) -> None:
    """Raises InputError where a backend is unknown, or cannot be used here, or not for a graph."""
    name, found, device = backend_named(backend)
    if problem := found.problem(graph, Settings(threads, device)):
        raise InputError(f"backend {name}: {problem}")


def _always() -> bool:
    return True


def _no_problem(graph: GraphFile | None, settings: Settings) -> None:
    return None


def _open_cpu(graph: GraphFile, settings: Settings) -> Session:
    from .onnxruntime_cpu import OnnxRuntimeSession, fitting_onnxruntime_engine

    return OnnxRuntimeSession(graph.path, settings.threads, fitting_onnxruntime_engine(graph))


def _prepared_cpu(graph: GraphFile, shapes: Shapes | None) -> bool:
    from .onnxruntime_cpu import find_onnxruntime_engine

    return find_onnxruntime_engine(graph) is not None


def _prepared_openvino(graph: GraphFile, shapes: Shapes | None) -> bool:
    from .openvino_engine import find_openvino_engine, has_openvino_engine

    # In this order nothing is read where some shapes will do.
    return (shapes is None and has_openvino_engine(graph, "CPU")) or find_openvino_engine(graph, "CPU", shapes)[
        0
    ] is not None


def _openvino_problem(graph: GraphFile | None, settings: Settings) -> str | None:
    from .openvino_support import openvino_problem

    return openvino_problem(graph, settings)


def _open_openvino(graph: GraphFile, settings: Settings) -> Session:
    from .openvino_session import OpenVinoSession

    return OpenVinoSession(graph, settings)


def _tensorrt(library: str) -> Backend:
    """`tensorrt_rtx` or `tensorrt`, which are used in one way."""

    def problem(graph: GraphFile | None, settings: Settings) -> str | None:
        from . import tensorrt_session

        return tensorrt_session.tensorrt_problem(library, graph, settings)

    def opened(graph: GraphFile, settings: Settings) -> Session:
        from . import tensorrt_session

        return tensorrt_session.open_tensorrt(library, graph, settings)

    return Backend(_installed(library), problem, opened)


def _cuda_present() -> bool:
    from .onnxruntime_cuda import cuda_present

    return cuda_present()


def _cuda_problem(graph: GraphFile | None, settings: Settings) -> str | None:
    from .onnxruntime_cuda import cuda_problem

    return cuda_problem(graph, settings)


def _open_cuda(graph: GraphFile, settings: Settings) -> Session:
    from .onnxruntime_cuda import open_cuda

    return open_cuda(graph, settings)


def _installed(module: str) -> Callable[[], bool]:
    return lambda: find_spec(module) is not None


BACKENDS: dict[str, Backend] = {
    "tensorrt": _tensorrt("tensorrt"),
    "rtx": _tensorrt("tensorrt_rtx"),
    "cuda": Backend(_cuda_present, _cuda_problem, _open_cuda),
    "openvino": Backend(_installed("openvino"), _openvino_problem, _open_openvino, _prepared_openvino),
    "cpu": Backend(_always, _no_problem, _open_cpu, _prepared_cpu),
}
"""Best first: the order in which they are tried where the caller names none."""
