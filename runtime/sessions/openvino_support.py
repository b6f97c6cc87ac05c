"""What can be told of OpenVINO where it may not be installed: whether it can be used, and for which graphs
it fixes shapes."""

from importlib import import_module
from importlib.util import find_spec

from ..errors import InputError
from .session import GraphFile, Settings

SMALL_GRAPH_BYTES = 100_000_000
"""Bytes of a graph whose calls are overhead more than arithmetic."""


def uses_static_shapes(graph: GraphFile, device: str) -> bool:
    """Whether a graph is compiled for one set of shapes on a device, the CPU where that is empty.

    OpenVINO then joins nodes that it leaves alone in a graph of free sizes, and shapes are inferred once. At full size
    a call of Stable Diffusion's quantized UNet takes 7 % less, one in floating point as long as before; a call of the
    embedded UNet takes half, at the price of a second at the first.
    """
    return device in ("", "CPU") and (graph.precision == "int8" or (graph.looped and graph.bytes < SMALL_GRAPH_BYTES))


def openvino_problem(graph: GraphFile | None, settings: Settings) -> str | None:
    """Why OpenVINO cannot be used on this machine, in one line with the fix; None when it can."""
    if find_spec("openvino") is None:
        return "needs the package openvino; pip install 'x2i-edge[openvino]'"
    try:
        import_module("openvino")
    except (ImportError, OSError) as error:
        said = str(error).partition("\n")[0]
        return f"openvino does not import: {said}; pip install --force-reinstall 'x2i-edge[openvino]'"
    if settings.device in ("", "CPU"):
        return None
    from .openvino_device import choose_device

    try:
        choose_device(settings.device)
    except InputError as error:
        return error.problems[0]
    return None
