"""What a TensorRT engine depends on, which GPUs it runs on, and what TensorRT complains of."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError
from ..sessions.session import GraphFile
from . import store
from .gpu import Gpu
from .key import EngineKey, differences


def import_tensorrt(library: str) -> ModuleType:
    """The module `tensorrt_rtx` or `tensorrt`; raises InputError where it is installed but does not import."""
    try:
        return import_module(library)
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{library} does not import: {reason}; pip install --force-reinstall {library.replace('_', '-')}"
        ) from error


@cache
def tensorrt_log(tensorrt: ModuleType) -> Any:
    """The one log of a module; its `errors` are what the library complained of since they were last cleared."""

    class Log(tensorrt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.Severity.ERROR, tensorrt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def tensorrt_complaint(tensorrt: ModuleType) -> str:
    """What the library said, in one line, each thing once."""
    return "; ".join(dict.fromkeys(message.strip() for message in tensorrt_log(tensorrt).errors)) or "no reason given"


RTX, TENSORRT = "tensorrt_rtx", "tensorrt"
ANY_GPU = "any GPU"
"""Where TensorRT-RTX was given no targets: the GPU's own code is made when the engine is opened."""
RTX_TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
"""What TensorRT-RTX 1.7 builds for ahead of time."""
BACKENDS = {RTX: "rtx", TENSORRT: "tensorrt"}
"""Names of the backends by their library's import name."""


def built_for(library: str, targets: tuple[str, ...], gpu: Gpu | None) -> str:
    """The device in an engine's key: TensorRT's engines are for one kind of GPU, TensorRT-RTX's for targets, or any."""
    if library == RTX:
        return " ".join(targets) or ANY_GPU
    assert gpu is not None, "TensorRT builds on the GPU that the engine is for"
    return f"{gpu.name} ({gpu.target})"


def find_tensorrt_engine(
    graph: GraphFile, library: str, version: str, gpu: Gpu, check_digest: bool = True
) -> Path | None:
    """The newest engine of a graph that this library opens on this GPU, whatever sizes it was built for."""
    wanted = _wanted(graph, library, version, gpu)
    return store.find_engine(graph.engines, wanted, tensorrt_differences, check_digest)


def why_no_tensorrt_engine(graph: GraphFile, library: str, version: str, gpu: Gpu) -> str:
    """One line: that there is no engine, or what is wrong with those that are there, and the fix."""
    fix = f"x2i build BUNDLE --for {BACKENDS[library]}"
    found = store.why_none_fits(graph.engines, _wanted(graph, library, version, gpu), tensorrt_differences)
    if not found:
        return f"{graph.name} has no engine; build it with `{fix}`"
    return f"{graph.name} has no engine that fits: {'; '.join(found)}; build it again with `{fix}`"


def tensorrt_differences(there: EngineKey, wanted: EngineKey) -> list[str]:
    """As `differences`, but an engine serves its own sizes and options, and every GPU that it was built for."""
    device = wanted.device if _covers(there.device, wanted.device) else there.device
    return differences(replace(there, device=device, shapes={}, options={}), replace(wanted, shapes={}, options={}))


def _wanted(graph: GraphFile, library: str, version: str, gpu: Gpu) -> EngineKey:
    device = gpu.target if library == RTX else built_for(library, (), gpu)
    return EngineKey(graph.name, graph.digest, graph.precision, library, version, device)


def _covers(built: str, gpu: str) -> bool:
    """Whether an engine built for `built` runs on a GPU of the architecture, or of the name, `gpu`."""
    return built in (ANY_GPU, gpu) or gpu in built.split()
