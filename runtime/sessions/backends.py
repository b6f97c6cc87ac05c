"""The backends by name, best first, and how a graph is opened on one of them.

A backend's library is imported when its first session is opened, or when it is asked whether it can be used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..bundle.reader import Bundle
from ..errors import InputError
from ..inputs.option import short
from .session import KERNEL_ATTENTIONS, GraphFile, Session, Settings, Shapes, check_tensors, library_edge

USUAL = Settings()
"""All cores, and the attention that is best."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One library that runs graphs.

    `present` tells whether it is installed, without importing it; `problem(graph, settings)` why it cannot be used on
    this machine, or for that graph, in one line with the fix: None when it can. `prepared` tells whether a graph has an
    engine that spares its memory, for these shapes of its inputs or, without, for any. `devices` says that one may
    stand behind its name, and `tried` that it is tried where the caller names none.
    """

    present: Callable[[], bool]
    problem: Callable[[GraphFile | None, Settings], str | None]
    open: Callable[[GraphFile, Settings], Session]
    prepared: Callable[[GraphFile, Shapes | None], bool] = lambda graph, shapes: False
    devices: bool = False
    tried: bool = True


def backend_named(spec: str) -> tuple[str, Backend, str]:
    """Name, backend and device of a `--backend` such as `cpu`, `openvino:GPU` or `ep:NAME`; raises InputError if
    unknown."""
    name, _, device = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name not in BACKENDS:
        raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got {short(spec)}")
    if device and not BACKENDS[name].devices:
        these = ", ".join(known for known, backend in BACKENDS.items() if backend.devices)
        raise InputError(f"backend: expected a device behind {these} alone, as in openvino:GPU, got {short(spec)}")
    return name, BACKENDS[name], device


def on_cpu(spec: str) -> bool:
    """Whether a backend computes on the CPU, in the memory of the process."""
    name, _, device = spec.partition(":")
    return name == "cpu" or (name == "openvino" and device.upper() in ("", "CPU"))


def open_session(backend: str, graph: GraphFile, settings: Settings = USUAL) -> Session:
    """Opens a graph on a backend; the device of `settings` is the backend's.

    Raises InputError for an unknown backend and for one that cannot be used here; another is never chosen instead.
    """
    check_backend(backend, graph, settings)
    name, found, device = backend_named(backend)
    with library_edge(lambda why: InputError(f"{graph.path}: {name} cannot open this graph: {why}; export it again")):
        session: Session = found.open(graph, replace(settings, device=device))
    check_tensors(graph, session)
    return session


Wrap = Callable[[str, Session], Session]
"""(the name of a graph, its session) -> what is called instead."""


def unwrapped(graph: str, session: Session) -> Session:
    """A session as it was opened."""
    return session


def graph_opener(
    backend: str, bundle: Bundle, settings: Settings = USUAL, wrap: Wrap = unwrapped
) -> Callable[[str], Session]:
    """A function that opens a bundle's graphs by their names, as `open_session` does, once their files are found to be
    what the manifest says: some are opened long after the bundle."""

    def opened(name: str) -> Session:
        bundle.check_graphs([name])
        return wrap(name, open_session(backend, bundle.graph_file(name), settings))

    return opened


def check_backend(backend: str, graph: GraphFile | None = None, settings: Settings = USUAL) -> None:
    """Raises InputError where a backend is unknown, or cannot be used here, or not for a graph."""
    name, found, device = backend_named(backend)
    if settings.attention in KERNEL_ATTENTIONS and not (name == "openvino" and on_cpu(backend)):
        raise InputError(
            f"attention {settings.attention}: expected backend openvino on the CPU, got {backend}; "
            "leave --attention out, or add --backend openvino"
        )
    if settings.rest_on_cpu and name not in PROVIDERS:
        raise InputError(
            f"rest_on_cpu: expected backend {' or '.join(PROVIDERS)}:NAME, got {backend}; leave --rest-on-cpu out"
        )
    if problem := found.problem(graph, replace(settings, device=device)):
        raise InputError(f"backend {name}: {problem}")


def _installed(package: str) -> Callable[[], bool]:
    return lambda: find_spec(package) is not None


def _lazy(module: str, function: str, *first: str) -> Callable[..., Any]:
    """A function of a module beside this one, imported when it is called; `first` are its first arguments."""

    def call(*arguments: object) -> Any:
        return getattr(import_module(f".{module}", __package__), function)(*first, *arguments)

    return call


def _tensorrt(library: str) -> Backend:
    """`tensorrt_rtx` or `tensorrt`, which are used in one way."""
    problem, opener = (_lazy("tensorrt_session", name, library) for name in ("tensorrt_problem", "open_tensorrt"))
    return Backend(_installed(library), problem, opener)


def _provider(provider: str, present: Callable[[], bool]) -> Backend:
    """An execution provider of ONNX Runtime by this name, or, where that is empty, by the one behind the backend's.

    How fast it is, the device decides, which may be one that the CPU pretends to be: the caller names it.
    """
    problem, opener = (
        _lazy("providers.provider_session", name, provider) for name in ("provider_problem", "open_provider")
    )
    return Backend(present, problem, opener, devices=True, tried=False)


BACKENDS: dict[str, Backend] = {
    "tensorrt": _tensorrt("tensorrt"),
    "rtx": _tensorrt("tensorrt_rtx"),
    "cuda": Backend(
        _lazy("onnxruntime_cuda", "cuda_present"),
        _lazy("onnxruntime_cuda", "cuda_problem"),
        _lazy("onnxruntime_cuda", "open_cuda"),
    ),
    "openvino": Backend(
        _installed("openvino"),
        _lazy("openvino_support", "openvino_problem"),
        _lazy("openvino_session", "OpenVinoSession"),
        _lazy("openvino_engine", "openvino_prepared"),
        devices=True,
    ),
    "webgpu": _provider("webgpu", _lazy("providers.provider_session", "webgpu_present")),
    "ep": _provider("", lambda: True),
    "cpu": Backend(
        lambda: True,
        lambda graph, settings: None,
        _lazy("onnxruntime_cpu", "open_onnxruntime"),
        _lazy("onnxruntime_cpu", "onnxruntime_prepared"),
    ),
}
"""Best first: the order in which they are tried where the caller names none."""
PROVIDERS = ("webgpu", "ep")
"""Those that are execution providers of ONNX Runtime, whose rest may go to the CPU."""
