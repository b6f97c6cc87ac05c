"""Whether OpenVINO can be used here, told where it is missing or broken."""

from importlib import import_module
from importlib.util import find_spec

from ..errors import InputError
from .graph_file import GraphFile
from .session import Settings


def problem(graph: GraphFile | None, settings: Settings) -> str | None:
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
    from .openvino_device import chosen

    try:
        chosen(settings.device)
    except InputError as error:
        return error.problems[0]
    return None
