"""Compilations of a graph, one for each set of shapes that it is called with; `openvino_support` says of which."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import openvino

from ..bundle.calls import Tensor
from ..files.mapped import release_pages
from . import openvino_device, openvino_engine
from .cache import trim_heap
from .openvino_support import uses_static_shapes
from .session import GraphFile, Outputs, Settings, Shapes, call_error, library_edge

MIN_COMPILED = 2
"""Compilations that are kept of every graph: for guided and for unguided calls of one size."""
MAX_COMPILED_BYTES = 500_000_000
"""More are kept where the graph's bytes, of which each holds its own, come to no more than this."""


class FixedShapes:
    """Compiles, or opens engines, for shapes as they come; the ones used last are kept."""

    def __init__(self, graph: GraphFile, device: str, settings: Settings):
        self._graph, self._device, self._settings = graph, device, settings
        self._kept: OrderedDict[tuple[tuple[str, tuple[int, ...]], ...], openvino_engine.OpenedEngine] = OrderedDict()
        self._read: openvino.Model | None = None
        self._most = max(MIN_COMPILED, MAX_COMPILED_BYTES // graph.bytes) if graph.bytes else MIN_COMPILED
        self._lock = Lock()

    def read(self) -> openvino.Model:
        """The graph, which the first compilation takes: read again, it would be in memory twice."""
        self._read = openvino_device.read_model(self._graph, self._device)
        return self._read

    def __call__(self, shapes: Shapes) -> openvino_engine.OpenedEngine:
        """The graph for inputs of these shapes, by name; raises InputError where OpenVINO cannot compile it."""
        key = tuple(sorted(shapes.items()))
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= self._most:
                    self._kept.popitem(last=False)
                self._kept[key] = self._opened(dict(key))
            self._kept.move_to_end(key)
            return self._kept[key]

    def _opened(self, shapes: Shapes) -> openvino_engine.OpenedEngine:
        engine = openvino_engine.fitting_openvino_engine(self._graph, self._device, self._settings, shapes)
        read, self._read = self._read, None
        if engine is None:
            compiled = openvino_device.compile_graph(self._graph, self._device, self._settings, shapes, read)
            opened = openvino_engine.OpenedEngine(compiled)
        else:
            opened = openvino_engine.open_openvino_engine(engine, self._graph, self._device, self._settings)
        # With its shapes fixed most weights have been copied into the order that the kernels read.
        _give_back(engine or self._graph.path)
        return opened


@dataclass(frozen=True, slots=True)
class _BoundRequest:
    """A request, and what must outlive it: other shapes may have taken its place in the session."""

    request: openvino.InferRequest
    opened: openvino_engine.OpenedEngine


class OpenVinoSession:
    """A Session of OpenVINO; safe to call from several threads.

    Opens the engine that `x2i build --for openvino` left in the bundle where one fits, and else compiles the graph:
    once for all sizes, or, where that is faster (see `uses_static_shapes`), for the shapes of each call. Raises
    InputError for a graph or a device that OpenVINO cannot open.
    """

    def __init__(self, graph: GraphFile, settings: Settings):
        self._graph, self._settings = graph, settings
        self._file = graph.path
        self._called = False
        self._device = openvino_device.choose_device(settings.device)
        self._fixed = FixedShapes(graph, self._device, settings) if uses_static_shapes(graph, self._device) else None
        self.inputs, self.outputs = self._tensors()
        self._free: list[openvino.InferRequest] = []

    def _tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs and outputs; the graph is read for them where that must be done anyway."""
        graph = self._graph
        if (
            self._fixed is not None
            and graph.inputs
            and openvino_engine.has_openvino_engine(graph, self._device, self._settings)
        ):
            return graph.inputs, graph.outputs
        ports = self._whole.model if self._fixed is None else self._fixed.read()
        return tuple(map(_tensor, ports.inputs)), tuple(map(_tensor, ports.outputs))

    @cached_property
    def _whole(self) -> openvino_engine.OpenedEngine:
        """The graph for all shapes."""
        engine = openvino_engine.fitting_openvino_engine(self._graph, self._device, self._settings)
        if engine is None:
            compiled = openvino_device.compile_graph(self._graph, self._device, self._settings)
            opened = openvino_engine.OpenedEngine(compiled)
        else:
            self._file = engine
            opened = openvino_engine.open_openvino_engine(engine, self._graph, self._device, self._settings)
        _give_back(self._file)
        return opened

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        assert arrays.keys() == {tensor.name for tensor in self.inputs}, sorted(arrays)
        if self._fixed is not None:
            return self.bind()(**arrays)
        with self._request() as request:
            return self._outputs(request, arrays)

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        held = {t.name: np.require(arrays.pop(t.name), t.dtype, ("C", "W")) for t in self.inputs if t.name in arrays}
        assert not arrays, sorted(arrays)
        requests: dict[tuple[tuple[int, ...], ...], _BoundRequest] = {}
        lock = Lock()

        def call(**rest: np.ndarray) -> Outputs:
            assert rest.keys() == {tensor.name for tensor in self.inputs} - held.keys(), sorted(rest)
            shapes = {name: array.shape for name, array in (held | rest).items()}
            key = tuple(shapes[tensor.name] for tensor in self.inputs)
            with lock:
                if key not in requests:
                    requests[key] = self._bound(held, shapes)
                return self._outputs(requests[key].request, rest)

        return call

    def _bound(self, held: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> _BoundRequest:
        """A request for these shapes that reads what is held where it lies, and holds it as long as it lives."""
        opened = self._whole if self._fixed is None else self._fixed(shapes)
        with library_edge(lambda why: call_error("OpenVINO", self.inputs, held, why)):
            request = opened.model.create_infer_request()
            for name, array in held.items():
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return _BoundRequest(request, opened)

    @contextmanager
    def _request(self) -> Iterator[openvino.InferRequest]:
        """One that no other thread uses meanwhile: those that are free, or a new one."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._whole.model.create_infer_request()
        yield request
        self._free.append(request)

    def _outputs(self, request: openvino.InferRequest, arrays: dict[str, np.ndarray]) -> Outputs:
        """Reads the inputs where they lie, and copies the outputs, which the next call will write over."""
        inputs = [tensor for tensor in self.inputs if tensor.name in arrays]
        with library_edge(lambda why: call_error("OpenVINO", inputs, arrays, why)):
            try:
                returned = request.infer(arrays, share_inputs=True, share_outputs=False)
            except RuntimeError as error:
                # The cause stands last.
                raise call_error("OpenVINO", inputs, arrays, openvino_device.last_line(error)) from error
        if not self._called:
            # A graph for all shapes copies its weights into the order of its kernels when it is first called.
            self._called = True
            _give_back(self._file)
        return {tensor.name: returned[tensor.name] for tensor in self.outputs}


def _give_back(path: Path) -> None:
    """Lets the system have what was read of a graph's or an engine's file, and what compiling it left unused."""
    release_pages(path)
    trim_heap()


def _tensor(port: openvino.Output | openvino.ConstOutput) -> Tensor:
    """Names of free sizes do not reach OpenVINO; theirs are made from the tensor's name."""
    name = port.get_any_name()
    shape = port.partial_shape
    sizes = (f"{name}.{axis}" if size.is_dynamic else size.get_length() for axis, size in enumerate(shape))
    return Tensor(name, np.dtype(port.element_type.to_dtype()).name, tuple(sizes))
