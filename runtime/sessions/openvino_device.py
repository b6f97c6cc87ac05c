"""What OpenVINO has here: its devices, and how a graph is compiled for one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from threading import Lock

import openvino

from ..attention.choice import choose_attention
from ..attention.kernel import quiet_kernel
from ..engines.plugin import PLUGINS
from ..errors import InputError
from .openvino_weights import read_mapped
from .session import GraphFile, Settings, Shapes

_MAKING = Lock()
BF16_PRECISIONS = ("int8", "bf16")
"""What lies between quantized operators may run in bfloat16 where the CPU has it, and so may a graph that says
so; every other graph runs in the types that it is written in, which OpenVINO by itself would not keep."""


def choose_device(device: str) -> str:
    """The device in OpenVINO's words, `CPU` for none; raises InputError for one that is not there."""
    device = device.upper() or "CPU"
    there = available_devices()
    wanted = device.partition(":")[2].split(",") if device.startswith("AUTO:") else [device]
    missing = [name for name in wanted if name != "AUTO" and not _is_there(name, there)]
    if missing:
        raise InputError(
            f"device: expected one of {', '.join((*there, 'AUTO'))}, got {', '.join(missing)}; "
            "install its driver, or choose another, such as openvino:CPU"
        )
    return device


def available_devices() -> tuple[str, ...]:
    """The devices whose driver is installed, such as CPU, GPU.0 and NPU."""
    return tuple(core().available_devices)


def read_model(graph: GraphFile, device: str) -> openvino.Model:
    """The graph, not yet compiled; raises InputError where OpenVINO cannot read it."""
    with _opening(graph, device):
        return read_mapped(core(), graph.path)


def compile_graph(
    graph: GraphFile,
    device: str,
    settings: Settings,
    shapes: Shapes | None = None,
    model: openvino.Model | None = None,
) -> openvino.CompiledModel:
    """The graph compiled for a device, for all shapes or for these alone; raises InputError where OpenVINO cannot.

    `model` is the graph where it is read already; its shapes are changed.
    """
    model = read_model(graph, device) if model is None else model
    with _opening(graph, device):
        if shapes is not None:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
        put_attention(model, graph, device, settings)
        return core().compile_model(model, device, properties(graph, device, settings))


def put_attention(model: openvino.Model, graph: GraphFile, device: str, settings: Settings) -> None:
    """Gives a model, whose shapes are set, the attention that the graph is to have on a device."""
    choice = choose_attention(graph, device, settings)
    if choice is not None:
        choice.put_into(model, core(), computes_in_bf16(graph, device), settings.threads)


@contextmanager
def _opening(graph: GraphFile, device: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{graph.path}: OpenVINO {openvino_version()} cannot open this graph on {device}: {last_line(error)}; "
            "choose another backend, such as cpu"
        ) from error


def properties(graph: GraphFile, device: str, settings: Settings) -> dict[str, object]:
    """How a graph is compiled, and run once it is."""
    threads = {"INFERENCE_NUM_THREADS": settings.threads} if settings.threads and device == "CPU" else {}
    return {"PERFORMANCE_HINT": "LATENCY", **arithmetic(graph, device), **threads}


def arithmetic(graph: GraphFile, device: str) -> dict[str, str]:
    """The types that a graph is computed in on a device: its own, or bfloat16 between quantized operators."""
    if computes_in_bf16(graph, device):
        return {"INFERENCE_PRECISION_HINT": "bf16"}
    return {"EXECUTION_MODE_HINT": "ACCURACY"}


def computes_in_bf16(graph: GraphFile, device: str) -> bool:
    """Whether what is in float32 in a graph is computed in bfloat16 on a device."""
    return graph.precision in BF16_PRECISIONS and device == "CPU" and "BF16" in capabilities(device)


def capabilities(device: str) -> tuple[str, ...]:
    """The types that the device computes in by itself, and other abilities, in OpenVINO's words."""
    return tuple(core().get_property(device, "OPTIMIZATION_CAPABILITIES"))


def openvino_version() -> str:
    """OpenVINO's release, without the build that its own version names."""
    return openvino.__version__.partition("-")[0]


def last_line(error: RuntimeError) -> str:
    """The last line that says something: those before it name places in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def core() -> openvino.Core:
    """The one entrance to OpenVINO, which is given every operator of ours, whichever thread asks first."""
    with _MAKING:
        return _core()


@cache
def _core() -> openvino.Core:
    made = openvino.Core()
    for plugin in entry_points(group=PLUGINS, name="openvino"):
        made.add_extension(plugin.load()())
    kernel = quiet_kernel().kernel
    if kernel is not None:
        # Without it, engines with the kernel in them could not be opened.
        made.add_extension(kernel.extension)
    return made


def _is_there(name: str, there: tuple[str, ...]) -> bool:
    return any(name in (device, device.partition(".")[0]) for device in there)
