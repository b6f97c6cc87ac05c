"""Compilations of a graph, one for each set of shapes that it is called with; `openvino_rule` says of which."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

import openvino

from . import openvino_device, openvino_engine
from .graph_file import GraphFile
from .session import Settings

Shape = tuple[int, ...]
KEPT = 2
"""Guided and unguided calls of one size."""
KEPT_BYTES = 500_000_000
"""More are kept where the graph's bytes, of which each holds its own, come to no more than this."""


class FixedShapes:
    """Compiles, or opens engines, for shapes as they come; the ones used last are kept."""

    def __init__(self, graph: GraphFile, device: str, settings: Settings):
        self._graph, self._device, self._settings = graph, device, settings
        self._kept: OrderedDict[tuple[tuple[str, Shape], ...], openvino_engine.Opened] = OrderedDict()
        self._read: openvino.Model | None = None
        self._most = max(KEPT, KEPT_BYTES // graph.bytes) if graph.bytes else KEPT
        self._lock = Lock()

    def read(self) -> openvino.Model:
        """The graph, which the first compilation takes: read again, it would be in memory twice."""
        self._read = openvino_device.read(self._graph, self._device)
        return self._read

    def __call__(self, shapes: Mapping[str, Shape]) -> openvino_engine.Opened:
        """The graph for inputs of these shapes, by name; raises InputError where OpenVINO cannot compile it."""
        key = tuple(sorted(shapes.items()))
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= self._most:
                    self._kept.popitem(last=False)
                self._kept[key] = self._opened(dict(key))
            self._kept.move_to_end(key)
            return self._kept[key]

    def _opened(self, shapes: dict[str, Shape]) -> openvino_engine.Opened:
        engine = openvino_engine.fitting(self._graph, self._device, shapes)
        read, self._read = self._read, None
        if engine is None:
            compiled = openvino_device.compiled(self._graph, self._device, self._settings, shapes, read)
            return openvino_engine.Opened(compiled)
        opened = openvino_engine.opened(engine, self._graph, self._device, self._settings)
        # With its shapes fixed most weights have been copied into the order that the kernels read.
        openvino_engine.drop_read(opened.file)
        return opened
