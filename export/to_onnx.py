"""One network on its way to a graph: what is needed to trace and prove it, and the tracing."""

import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from torch import Tensor, nn

from .graphs.graph_io import EXTERNAL_DATA_BYTES
from .graphs.own_operators import define_functions
from .graphs.part_names import SCOPES
from .lora.target import LoraTarget
from .paint.target import PaintTarget

Sizes = dict[str, int]
"""A number for each free size by its name, such as batch, height or tokens."""


@dataclass(frozen=True, slots=True)
class Component:
    """A module and all that its graph needs to be traced and proven.

    `example(sizes)` draws one set of inputs, in the order of the module's `forward`, for given free sizes; `free`
    names the axes that may change, input by input, and a multiple of another as `8*height`; `outputs` names what
    `forward` returns. The graph is traced at `trace` and proven at `proof`, two different sets of sizes, so that a size
    frozen by mistake fails at export. `gate` bounds the error against fp32 torch as a share of the output's standard
    deviation. `lora` are the weights that a LoRA may change, `paint` the cross-attention that takes painted words.
    """

    name: str
    module: nn.Module
    example: Callable[[Sizes], dict[str, Tensor]]
    outputs: tuple[str, ...]
    free: dict[str, dict[int, str]]
    trace: Sizes
    proof: Sizes
    gate: float = 1e-4
    lora: LoraTarget | None = None
    paint: PaintTarget | None = None

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The module's outputs for one set of inputs, by their names."""
        with torch.no_grad():
            returned = self.module(*inputs.values())
        return dict(zip(self.outputs, returned if isinstance(returned, tuple) else (returned,), strict=True))


def batched_component(
    name: str,
    module: nn.Module,
    example: Callable[[Sizes], dict[str, Tensor]],
    inputs: Iterable[str],
    outputs: tuple[str, ...],
) -> Component:
    """A component whose only free size is the first of every input, `batch`."""
    free = {tensor: {0: "batch"} for tensor in inputs}
    return Component(name, module.eval(), example, outputs, free, trace={"batch": 2}, proof={"batch": 3})


def numpy_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors' numbers by their names."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


OPSET = 20
"""Read by ONNX Runtime, OpenVINO and TensorRT 10.x alike."""
MAX_TRACED_BATCH = 63
"""diffusers' upsampler branches at a batch of 64. The bound keeps the trace on one side; the graph takes any batch."""


def to_onnx(component: Component, path: Path, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
    """Writes the graph of a component to `path`, in opset 20, every tensor float32, int64 or bool as in torch.

    Weights of more than `external_data_bytes` go to `path` + ".data". Errors of the tracer are passed on.
    """
    inputs = component.example(component.trace)
    names = {name for axes in component.free.values() for name in axes.values()}
    plain = sorted({name.rpartition("*")[2] for name in names})
    sizes: dict[str, Any] = {name: _dimension(name, component.trace[name]) for name in plain}
    for times, _, name in (name.partition("*") for name in names if "*" in name):
        sizes[f"{times}*{name}"] = int(times) * sizes[name]
    axes = [{axis: sizes[name] for axis, name in component.free.get(key, {}).items()} for key in inputs]
    dynamic = _as_arguments(component.module, axes)
    with torch.no_grad(), _quiet():
        exported = torch.export.export(component.module, tuple(inputs.values()), dynamic_shapes=dynamic, strict=False)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(component.outputs),
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    define_functions(program.model)
    _drop_origins(program.model)
    weights = sum(p.numel() * p.element_size() for p in component.module.parameters())
    program.save(path, external_data=weights > external_data_bytes)


def _dimension(name: str, traced: int) -> torch.export.Dim:
    if name in ("height", "width"):
        # Interpolation branches at one pixel: this too bounds the trace alone.
        return torch.export.Dim(name, min=traced)
    return torch.export.Dim(name, max=MAX_TRACED_BATCH if name == "batch" else None)


def _as_arguments(module: nn.Module, axes: list[Any]) -> tuple:
    """One entry per parameter of `forward`; those that fall to `*args`, where there are any, are one tuple."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind is not inspect.Parameter.VAR_POSITIONAL:
        return tuple(axes)
    named = len(parameters) - 1
    others = tuple(axes[named:])
    return (*axes[:named], others) if others else tuple(axes)


def _drop_origins(model: onnx_ir.Model) -> None:
    """Takes out what the tracer tells of the machine: stack traces with its paths, and torch's own names.

    The scopes stay; parts of a model are found by them.
    """
    for node in model.graph.all_nodes():
        kept = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()
        if kept is not None:
            node.metadata_props[SCOPES] = kept
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tracer's notes about optional packages and guards off the user's terminal; errors still raise."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
