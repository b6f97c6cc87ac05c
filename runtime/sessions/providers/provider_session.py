"""Graphs on any execution provider of ONNX Runtime, a plug-in's or one that it was built with.

Nothing is left to the CPU without a word: see `placement`.
"""

import warnings
from functools import cache
from threading import Lock

import numpy as np
import onnxruntime

from ...errors import EngineWarning, InputError
from ..onnxruntime_cpu import as_tensor, session_options
from ..session import GraphFile, Outputs, Settings, UnboundSession, call_error, library_edge
from .placement import RECORD, NodePlacement, named, placement
from .registered import NEWER, ChosenProvider, asked_provider, provider_present
from .trial_graph import GATES, trial_error, trial_graph, trial_inputs

WEBGPU = "webgpu"
INSTALL_WEBGPU = "pip install 'x2i-edge[webgpu]'"


def webgpu_present() -> bool:
    """Whether WebGPU is here: as a plug-in, or in an ONNX Runtime that was built with it."""
    return provider_present(WEBGPU)


def provider_problem(provider: str, graph: GraphFile | None, settings: Settings) -> str | None:
    """Why a provider cannot be used, in one line with the fix; None when it can.

    `provider` is WEBGPU, whose device the settings name, or empty: then they name the provider behind it, too.
    """
    if provider == WEBGPU and not webgpu_present():
        return f"needs WebGPU's provider for ONNX Runtime; {INSTALL_WEBGPU}"
    try:
        asked = asked_provider(_spelled(provider, settings.device))
    except InputError as error:
        return error.problems[0]
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        return f"ONNX Runtime {onnxruntime.__version__} does not tell what a provider takes of a graph; {NEWER}"
    if graph is not None and "fp16" in graph.precision:
        return _half_problem(asked)
    return None


def open_provider(provider: str, graph: GraphFile, settings: Settings) -> "ProviderSession":
    """Opens a graph on a provider, which is named as for `provider_problem`.

    Raises InputError where ONNX Runtime cannot, and where nodes that compute are left to the CPU, unless the settings
    allow it: then there is a warning.
    """
    asked = asked_provider(_spelled(provider, settings.device))
    refused = f"{graph.path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph on {asked.provider.name}"
    with library_edge(lambda why: InputError(f"{refused}: {why}; choose another backend, such as cpu")):
        session = ProviderSession(graph, asked, settings.threads)
    if computing := session.placement.computing:
        left = f"{len(computing)} nodes that {asked.provider.name} does not take ({named(computing)})"
        if not settings.rest_on_cpu:
            raise InputError(
                f"{graph.path}: {left} would run on the CPU; add --rest-on-cpu to let them, or choose another backend"
            )
        warnings.warn(f"{graph.name}: {left} run on the CPU", EngineWarning, stacklevel=4)
    return session


def _spelled(provider: str, device: str) -> str:
    """Provider and device as `asked_provider` reads them."""
    return ":".join(filter(None, (provider, device)))


class ProviderSession(UnboundSession):
    """A Session of ONNX Runtime on one provider; safe to call from several threads, one at a time.

    `placement` tells which nodes are left to the CPU. Raises what ONNX Runtime does where it cannot open the graph.
    """

    def __init__(self, graph: GraphFile, asked: ChosenProvider, threads: int | None = None):
        # Those of the CPU, which may run the rest.
        options = session_options(threads)
        options.add_session_config_entry(RECORD, "1")
        if asked.device is None:
            # Without a fallback: Python's binding would else print the error and open the graph on the CPU.
            self._session = onnxruntime.InferenceSession(
                str(graph.path), options, providers=[asked.provider.name], enable_fallback=False
            )
        else:
            options.add_provider_for_devices([asked.device], {})
            self._session = onnxruntime.InferenceSession(str(graph.path), options)
        if self._session.get_providers()[0] != asked.provider.name:
            raise InputError(f"{asked.provider.name} does not work here, and ONNX Runtime left {graph.name} to the CPU")
        super().__init__(
            tuple(map(as_tensor, self._session.get_inputs())), tuple(map(as_tensor, self._session.get_outputs()))
        )
        self.placement: NodePlacement = placement(graph.path, self._session, asked.provider.name)
        self._names = [tensor.name for tensor in self.outputs]
        self._lock = Lock()

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        with library_edge(lambda why: call_error("ONNX Runtime", self.inputs, arrays, why)), self._lock:
            outputs = self._session.run(self._names, arrays)
        return dict(zip(self._names, outputs, strict=True))


@cache
def _half_problem(asked: ChosenProvider) -> str | None:
    """Why a provider's device computes no float16, found by running a small graph; None where it does, and where the
    graph does not run in float32 either: then something else is wrong."""
    try:
        error = _trial("fp16", asked)
        said = "" if error <= GATES["fp16"] else f"its error is {error:.1e} where {GATES['fp16']:.0e} is allowed"
    except InputError as refused:
        try:
            _trial("fp32", asked)
        except InputError:
            return None
        said = refused.problems[0]
    fix = "take a bundle in fp32, or choose another backend"
    return f"this graph is fp16, and {asked.where} computes no float16: {said}; {fix}" if said else None


def _trial(precision: str, asked: ChosenProvider) -> float:
    """The error of the trial's graph on a provider. Raises InputError where it cannot run it."""
    with library_edge(InputError):
        return trial_error(ProviderSession(trial_graph(precision), asked)(**trial_inputs()))
