"""What OpenVINO has compiled, kept in a bundle: opened again in a fraction of the time."""

import io
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import openvino

from ..engines import store
from ..engines.key import EngineKey
from ..engines.memory import peak_bytes
from ..errors import InputError
from . import openvino_device
from .graph_file import GraphFile
from .session import Settings

LIBRARY = "openvino"


def build(graph: GraphFile, settings: Settings) -> Path:
    """Compiles a graph for a device and keeps it in the bundle's engines; returns the file.

    Raises InputError where OpenVINO cannot compile it or has no device of that name; then nothing is left behind.
    """
    assert graph.engines is not None and graph.digest, "an engine without a bundle to keep it in"
    device = openvino_device.chosen(settings.device)
    start = time.perf_counter()
    compiled = openvino_device.compiled(graph, device, settings)
    with store.unfinished(graph.engines) as folder:
        made = folder / "engine"
        with made.open("w+b") as file:
            compiled.export_model(_ToFile(file))
        return store.save(graph.engines, key(graph, device), made, time.perf_counter() - start, peak_bytes())


def key(graph: GraphFile, device: str) -> EngineKey:
    """All that an engine depends on: it serves every size and every number of threads."""
    core = openvino_device.core()
    model = "" if device.startswith("AUTO") else core.get_property(device, "FULL_DEVICE_NAME").strip()
    return EngineKey(
        graph.name,
        graph.digest,
        graph.precision,
        LIBRARY,
        openvino.__version__,
        " ".join([device, model, *openvino_device.capabilities(device)]),
        options=openvino_device.arithmetic(graph, device),
    )


def found(graph: GraphFile, device: str) -> tuple[Path | None, list[str]]:
    """The engine that fits a graph and a device, or why none of those that are there does."""
    if graph.engines is None or not graph.engines.is_dir() or not graph.digest:
        return None, []
    wanted = key(graph, device)
    path = store.find(graph.engines, wanted)
    return path, [] if path is not None else store.reasons(graph.engines, wanted)


def opened(path: Path, graph: GraphFile, device: str, settings: Settings) -> tuple[openvino.CompiledModel, np.ndarray]:
    """A graph's engine, and the file mapped into memory, which must outlive it: the weights are left there."""
    mapped = np.memmap(path, np.uint8, mode="c")
    blob = openvino.Tensor(mapped, shared_memory=True)
    try:
        # An engine does not hold its properties: without them its types would be the device's choice.
        properties = openvino_device.properties(graph, device, settings)
        return openvino_device.core().import_model(blob, device, properties), mapped
    except RuntimeError as error:
        raise InputError(
            f"{path}: OpenVINO {openvino_device.version()} cannot open this engine: {openvino_device.reason(error)}; "
            "remove it, or build it again with x2i build BUNDLE --for openvino"
        ) from error


class _ToFile(io.BytesIO):
    """What OpenVINO exports into, passed on to a file: it writes to nothing but a BytesIO, and a full-size engine need
    not be in memory twice."""

    def __init__(self, file: BinaryIO):
        super().__init__()
        self._file = file

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()
