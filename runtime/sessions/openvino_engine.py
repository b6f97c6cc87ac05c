"""What OpenVINO has compiled, kept in a bundle: opened again in a fraction of the time."""

import hashlib
import io
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import openvino

from ..attention.choice import choose_attention
from ..engines import store
from ..engines.key import EngineKey, differences
from ..errors import EngineWarning, InputError
from ..files.mapped import map_file
from ..machine import peak_memory
from . import openvino_device
from .session import GraphFile, Settings, Shapes

LIBRARY = "openvino"
SHAPES = "shapes"


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """A compiled graph and the engine's file that it lies in, None without an engine.

    What OpenVINO makes of `model` reads from the file, and does not hold it: whoever keeps a request keeps this, too.
    """

    model: openvino.CompiledModel
    file: np.ndarray | None = None


def build_openvino_engine(graph: GraphFile, settings: Settings, shapes: Shapes | None = None) -> Path:
    """Compiles a graph for a device and keeps it in the bundle's engines, for all shapes or these; returns the file.

    Raises InputError where OpenVINO cannot compile it or has no device of that name; then nothing is left behind.
    """
    assert graph.engines is not None and graph.digest, "an engine without a bundle to keep it in"
    device = openvino_device.choose_device(settings.device)
    start = time.perf_counter()
    compiled = openvino_device.compile_graph(graph, device, settings, shapes)
    with store.staging_dir(graph.engines) as folder:
        made = folder / "engine"
        with made.open("w+b") as file:
            compiled.export_model(_ToFile(file))
        return store.save_engine(
            graph.engines,
            openvino_key(graph, device, settings, shapes),
            made,
            time.perf_counter() - start,
            peak_memory(),
        )


def openvino_key(graph: GraphFile, device: str, settings: Settings, shapes: Shapes | None = None) -> EngineKey:
    """All that an engine depends on: it serves every number of threads, and every size where no shapes are given."""
    fixed = {} if shapes is None else {SHAPES: _shapes_text(shapes)}
    attention = choose_attention(graph, device, settings)
    own = {} if attention is None else {"attention": attention.key}
    core = openvino_device.core()
    model = "" if device.startswith("AUTO") else core.get_property(device, "FULL_DEVICE_NAME").strip()
    return EngineKey(
        graph.name,
        graph.digest,
        graph.precision,
        LIBRARY,
        openvino.__version__,
        " ".join([device, model, *openvino_device.capabilities(device)]),
        options=openvino_device.arithmetic(graph, device) | own | fixed,
    )


def find_openvino_engine(
    graph: GraphFile, device: str, settings: Settings, shapes: Shapes | None = None
) -> tuple[Path | None, list[str]]:
    """The engine that fits a graph, a device and the shapes, or why none of those that are there does."""
    if graph.engines is None or not graph.engines.is_dir() or not graph.digest:
        return None, []
    wanted = openvino_key(graph, device, settings, shapes)
    path = store.find_engine(graph.engines, wanted)
    return path, [] if path is not None else store.why_none_fits(graph.engines, wanted, _of_these_shapes)


def has_openvino_engine(graph: GraphFile, device: str, settings: Settings) -> bool:
    """Whether there is an engine of a graph for a device, whatever its shapes; it is not read."""
    if graph.engines is None or not graph.engines.is_dir() or not graph.digest:
        return False
    return (
        store.find_engine(
            graph.engines, openvino_key(graph, device, settings), _whatever_its_shapes, check_digest=False
        )
        is not None
    )


def openvino_prepared(graph: GraphFile, shapes: Shapes | None) -> bool:
    """Whether a graph has an engine for the CPU that spares its memory: for these shapes, or without for any."""
    # In this order nothing is read where any shapes will do.
    if shapes is None and has_openvino_engine(graph, "CPU", Settings()):
        return True
    return find_openvino_engine(graph, "CPU", Settings(), shapes)[0] is not None


def _whatever_its_shapes(there: EngineKey, wanted: EngineKey) -> list[str]:
    if SHAPES not in there.options:
        return ["built for all sizes"]
    options = {name: value for name, value in there.options.items() if name != SHAPES}
    return differences(replace(there, options=options), wanted)


def _of_these_shapes(there: EngineKey, wanted: EngineKey) -> list[str]:
    """An engine for other shapes is no worse for it; one for all shapes, where some are wanted, is of no use."""
    others = SHAPES in there.options and there.options[SHAPES] != wanted.options.get(SHAPES)
    return [] if others else differences(there, wanted)


def _shapes_text(shapes: Shapes) -> str:
    """Shapes by name: those of the first input spelled out, all of them as a digest."""
    described = [f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items())]
    return f"{described[0]} ({hashlib.sha256(' '.join(described).encode()).hexdigest()[:12]})"


def fitting_openvino_engine(
    graph: GraphFile, device: str, settings: Settings, shapes: Shapes | None = None
) -> Path | None:
    """The engine of the bundle that fits; None where there is none, with a warning where others ought to."""
    path, why = find_openvino_engine(graph, device, settings, shapes)
    if why:
        note = f"{graph.name}: compiled again, since no engine fits: {'; '.join(why)}; x2i build BUNDLE --for openvino"
        warnings.warn(note, EngineWarning, stacklevel=5)
    return path


def open_openvino_engine(path: Path, graph: GraphFile, device: str, settings: Settings) -> OpenedEngine:
    """A graph's engine; the weights are left in the file, which is mapped into memory.

    Raises InputError where OpenVINO cannot open it.
    """
    mapped = map_file(path).array()
    blob = openvino.Tensor(mapped, shared_memory=True)
    try:
        # An engine does not hold its properties: without them its types would be the device's choice.
        properties = openvino_device.properties(graph, device, settings)
        return OpenedEngine(openvino_device.core().import_model(blob, device, properties), mapped)
    except RuntimeError as error:
        raise InputError(
            f"{path}: OpenVINO {openvino_device.openvino_version()} cannot open this engine: "
            f"{openvino_device.last_line(error)}; remove it, or build it again with x2i build BUNDLE --for openvino"
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
