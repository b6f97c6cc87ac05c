"""Graphs through OpenVINO: CPUs, and the integrated GPUs and NPUs by the name of the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import openvino

from ..errors import InputError
from ..manifest import Tensor
from . import openvino_device, openvino_engine
from .graph_file import GraphFile
from .openvino_rule import fixes
from .openvino_shapes import FixedShapes
from .session import Outputs, Settings


@dataclass(frozen=True, slots=True)
class _Bound:
    """A request, and what must outlive it: other shapes may have taken its place in the session."""

    request: openvino.InferRequest
    opened: openvino_engine.Opened


class OpenVinoSession:
    """A Session of OpenVINO; safe to call from several threads.

    Opens the engine that `x2i build --for openvino` left in the bundle where one fits, and else compiles the graph:
    once for all sizes, or, where that is faster (see `openvino_rule`), for the shapes of each call. Raises InputError
    for a graph or a device that OpenVINO cannot open.
    """

    def __init__(self, graph: GraphFile, settings: Settings):
        self._graph, self._settings = graph, settings
        self._device = openvino_device.chosen(settings.device)
        self._fixed = FixedShapes(graph, self._device, settings) if fixes(graph, self._device) else None
        self.inputs, self.outputs = self._tensors()
        self._free: list[openvino.InferRequest] = []

    def _tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs and outputs; the graph is read for them where that must be done anyway."""
        graph = self._graph
        if self._fixed is not None and graph.inputs and openvino_engine.for_some_shapes(graph, self._device):
            return graph.inputs, graph.outputs
        ports = self._whole.model if self._fixed is None else self._fixed.read()
        return tuple(map(_tensor, ports.inputs)), tuple(map(_tensor, ports.outputs))

    @cached_property
    def _whole(self) -> openvino_engine.Opened:
        """The graph for all shapes."""
        engine = openvino_engine.fitting(self._graph, self._device)
        if engine is None:
            return openvino_engine.Opened(openvino_device.compiled(self._graph, self._device, self._settings))
        return openvino_engine.opened(engine, self._graph, self._device, self._settings)

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        assert arrays.keys() == {tensor.name for tensor in self.inputs}, sorted(arrays)
        if self._fixed is not None:
            return self.bind()(**arrays)
        with self._request() as request:
            return self._outputs(request, arrays)

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        held = {t.name: np.require(arrays.pop(t.name), t.dtype, ("C", "W")) for t in self.inputs if t.name in arrays}
        assert not arrays, sorted(arrays)
        requests: dict[tuple[tuple[int, ...], ...], _Bound] = {}
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

    def _bound(self, held: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> _Bound:
        """A request for these shapes that reads what is held where it lies, and holds it as long as it lives."""
        opened = self._whole if self._fixed is None else self._fixed(shapes)
        request = opened.model.create_infer_request()
        for name, array in held.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return _Bound(request, opened)

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
        try:
            returned = request.infer(arrays, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise InputError(
                f"OpenVINO failed on {shapes}: {openvino_device.reason(error)}; try a smaller size or count"
            ) from error
        return {tensor.name: returned[tensor.name] for tensor in self.outputs}


def _tensor(port: openvino.Output | openvino.ConstOutput) -> Tensor:
    """Names of free sizes do not reach OpenVINO; theirs are made from the tensor's name."""
    name = port.get_any_name()
    shape = port.partial_shape
    sizes = (f"{name}.{axis}" if size.is_dynamic else size.get_length() for axis, size in enumerate(shape))
    return Tensor(name, np.dtype(port.element_type.to_dtype()).name, tuple(sizes))
