"""Seconds by kind of operator from OpenVINO's counters."""

from collections import defaultdict

import numpy as np
import openvino

from ..attention.kernel import NODE_PREFIX, OPERATION
from ..sessions import openvino_device
from ..sessions.openvino_support import uses_static_shapes
from ..sessions.session import GraphFile, Settings
from .recorder import CapturedCall


class OpenVinoProfiled:
    """A graph compiled with the same types and for the same device, but with the counters on. The first call warms up.

    `one` gives the shapes where the session fixes them. Raises InputError for a device that is not there.
    """

    def __init__(self, graph: GraphFile, settings: Settings, one: CapturedCall):
        device = openvino_device.choose_device(settings.device)
        properties = openvino_device.properties(graph, device, settings) | {"PERF_COUNT": True}
        model = openvino_device.read_model(graph, device)
        if uses_static_shapes(graph, device):
            # As the session does, which compiles it for the shapes of its call.
            model.reshape({name: list(array.shape) for name, array in one.arrays.items()})
        openvino_device.put_attention(model, graph, device, settings)
        self._request = openvino_device.core().compile_model(model, device, properties).create_infer_request()
        self._found: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self._warm = False

    def call(self, arrays: dict[str, np.ndarray]) -> None:
        """Runs the graph once on all its inputs, and adds up what its operators took."""
        self._request.infer(arrays, share_inputs=True, share_outputs=False)
        for node in self._request.get_profiling_info():
            if node.status != openvino.ProfilingInfo.Status.EXECUTED:
                continue
            entry = self._found[OPERATION if node.node_name.startswith(NODE_PREFIX) else node.node_type]
            entry[0] += 1
            entry[1] += node.real_time.total_seconds() if self._warm else 0
        self._warm = True

    def tally(self) -> dict[str, tuple[int, float]]:
        """Operators of all calls by type, and their seconds without the first call's."""
        return {kind: (int(number), seconds) for kind, (number, seconds) in self._found.items()}
