"""What a TensorRT engine depends on, and which GPUs it runs on; one way for TensorRT-RTX and for TensorRT."""

from dataclasses import replace
from pathlib import Path

from ..sessions.graph_file import GraphFile
from . import store
from .gpu import Gpu
from .key import EngineKey, differences

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


def find(graph: GraphFile, library: str, version: str, gpu: Gpu, check_digest: bool = True) -> Path | None:
    """The newest engine of a graph that this library opens on this GPU, whatever sizes it was built for."""
    wanted = _wanted(graph, library, version, gpu)
    return store.find(graph.engines, wanted, tensorrt_differences, check_digest)


def why_not(graph: GraphFile, library: str, version: str, gpu: Gpu) -> str:
    """One line: that there is no engine, or what is wrong with those that are there, and the fix."""
    fix = f"x2i build BUNDLE --for {BACKENDS[library]}"
    found = store.reasons(graph.engines, _wanted(graph, library, version, gpu), tensorrt_differences)
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
