"""Graphs through OpenVINO: CPUs, and the integrated GPUs and NPUs by the name of the device."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import openvino

from ..errors import InputError
from ..manifest import Tensor
from . import openvino_device, openvino_engine
from .graph_file import GraphFile
from .session import Outputs, Settings


class OpenVinoSession:
    """A Session of OpenVINO; safe to call from several threads.

    Opens the engine that `x2i build --for openvino` left in the bundle where one fits, and else compiles the graph: one
    compilation for all sizes, because at full size those of fixed sizes are no faster, and each would hold the weights
    again. Raises InputError for a graph or a device that OpenVINO cannot open.
    """

    def __init__(self, graph: GraphFile, settings: Settings):
        device = openvino_device.chosen(settings.device)
        engine = _engine(graph, device)
        if engine is None:
            self._compiled = openvino_device.compiled(graph, device, settings)
        else:
            self._compiled, self._mapped = openvino_engine.opened(engine, graph, device, settings)
        self.inputs = tuple(_tensor(port) for port in self._compiled.inputs)
        self.outputs = tuple(_tensor(port) for port in self._compiled.outputs)
        self._free: list[openvino.InferRequest] = []

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        assert arrays.keys() == {tensor.name for tensor in self.inputs}, sorted(arrays)
        with self._request() as request:
            return self._outputs(request, arrays)

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        request, lock = self._compiled.create_infer_request(), Lock()
        # Held as long as the request, which reads them where they lie.
        held = {t.name: np.require(arrays.pop(t.name), t.dtype, ("C", "W")) for t in self.inputs if t.name in arrays}
        assert not arrays, sorted(arrays)
        for name, array in held.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

        def call(**rest: np.ndarray) -> Outputs:
            assert rest.keys() == {tensor.name for tensor in self.inputs} - held.keys(), sorted(rest)
            with lock:
                return self._outputs(request, rest)

        return call

    @contextmanager
    def _request(self) -> Iterator[openvino.InferRequest]:
        """One that no other thread uses meanwhile: those that are free, or a new one."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
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
        return {tensor.name: returned[place] for place, tensor in enumerate(self.outputs)}


def _engine(graph: GraphFile, device: str) -> Path | None:
    """The engine of the bundle that fits; None where there is none, with a warning where there are others."""
    path, why = openvino_engine.found(graph, device)
    if why:
        told = f"{graph.name}: compiled again, since no engine fits: {'; '.join(why)}; x2i build BUNDLE --for openvino"
        warnings.warn(told, UserWarning, stacklevel=4)
    return path


def _tensor(port: openvino.ConstOutput) -> Tensor:
    """Names of free sizes do not reach OpenVINO; theirs are made from the tensor's name."""
    name = port.get_any_name()
    shape = port.partial_shape
    sizes = (f"{name}.{axis}" if size.is_dynamic else size.get_length() for axis, size in enumerate(shape))
    return Tensor(name, np.dtype(port.element_type.to_dtype()).name, tuple(sizes))
