"""An op as a plugin of TensorRT-RTX and of TensorRT 10 and 11: one class for whichever of the modules is given.

At build time a plugin takes the compiled kernels that it was registered with and writes those that a node needs into
the engine. At run time it takes them from there, so that running an engine needs neither Triton nor the files.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ..domain import DOMAIN, VERSION
from ..errors import KernelError
from .cubins import Cubin
from .engine_op import EngineOp
from .kernel_op import KernelOp
from .parser_library import let_parser_find_library

_VERSION = str(VERSION)


def register_plugins(tensorrt: ModuleType, ops: Iterable[KernelOp], kernels: Iterable[Cubin] = ()) -> None:
    """Makes the ops' plugins known to `tensorrt` or `tensorrt_rtx`, whichever module is given.

    To build engines they need `kernels` (`read_cubins`), to run them none; registering again replaces them.
    Raises KernelError where a plugin could not be parsed or registered; without it, the function body is used.
    """
    if tensorrt.__name__ == "tensorrt_rtx":
        let_parser_find_library(tensorrt)
    registry, kernels = tensorrt.get_plugin_registry(), tuple(kernels)
    for op in ops:
        creator = _creator(tensorrt, op)
        creator.kernels = kernels
        known = registry.get_creator(op.name, _VERSION, DOMAIN) is not None
        if not known and not registry.register_creator(creator, DOMAIN):
            raise KernelError(f"{tensorrt.__name__} {tensorrt.__version__} refused to register {DOMAIN}::{op.name}")


@cache
def _creator(tensorrt: ModuleType, op: KernelOp) -> Any:
    """The creator, which must live as long as the registry: as long as the process."""
    plugin = _plugin_class(tensorrt, op)

    class Creator(tensorrt.IPluginCreatorV3One):  # type: ignore[name-defined]
        kernels: tuple[Cubin, ...] = ()

        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_version, self.plugin_namespace = op.name, _VERSION, DOMAIN
            kinds = tensorrt.PluginFieldType
            declared = {"num_heads": kinds.INT32, "scale": kinds.FLOAT32}
            empty = [tensorrt.PluginField(name, np.array([]), kind) for name, kind in declared.items()]
            self.field_names = tensorrt.PluginFieldCollection(empty)

        def create_plugin(self, name: str, fields: Iterable[Any], phase: Any) -> Any:
            return plugin(EngineOp.from_fields(op, {field.name: field.data for field in fields}, self.kernels))

    return Creator()


def _plugin_class(tensorrt: ModuleType, op: KernelOp) -> Any:
    bases = (
        tensorrt.IPluginV3,
        tensorrt.IPluginV3OneCore,
        tensorrt.IPluginV3OneBuild,
        tensorrt.IPluginV3OneRuntime,
    )

    class Plugin(*bases):  # type: ignore[misc]
        """The calls that TensorRT makes, in the order in which it makes them."""

        def __init__(self, node: EngineOp) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = op.name, _VERSION, DOMAIN
            self.num_outputs = 1
            self.node = node

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(self.node)

        def get_output_data_types(self, types: Sequence[Any]) -> list[Any]:
            return [types[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, builder: Any) -> list[Any]:
            return [tensorrt.DimsExprs(inputs[0])]

        def supports_format_combination(self, position: int, tensors: Sequence[Any], count: int) -> bool:
            kinds = {"i64": tensorrt.DataType.INT64, "fp32": tensorrt.DataType.FLOAT}
            own = op.types.get(op.inputs[position]) if position < count else None
            found = tensors[position].desc
            right = found.type == (tensors[0].desc.type if own is None else kinds[own])
            return bool(right and found.format == tensorrt.TensorFormat.LINEAR)

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            query = inputs[0].desc
            self.node = self.node.configured(_dtype(query.type), query.dims[2])

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            samples, queries, _ = inputs[0].max
            return self.node.workspace_size(samples, queries)

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None:
            pass

        def get_fields_to_serialize(self) -> Any:
            # TensorRT reads the arrays after this returns.
            self.serialized = self.node.fields()
            kinds = {np.int32: "INT32", np.float32: "FLOAT32", np.int8: "INT8"}
            return tensorrt.PluginFieldCollection(
                [
                    tensorrt.PluginField(name, value, getattr(tensorrt.PluginFieldType, kinds[value.dtype.type]))
                    for name, value in self.serialized.items()
                ]
            )

        def attach_to_context(self, context: Any) -> Any:
            return Plugin(self.node.attached())

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            query = inputs[0]
            self.node = self.node.configured(_dtype(query.type), query.dims[2])

        def enqueue(
            self,
            inputs: Sequence[Any],
            outputs: Sequence[Any],
            addresses: Sequence[int],
            output_addresses: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            shapes = {name: tuple(tensor.dims) for name, tensor in zip(op.inputs, inputs, strict=True)}
            pointers = dict(zip(op.inputs, addresses, strict=True)) | {"output": output_addresses[0]}
            self.node.enqueue(shapes, pointers, workspace, stream)

    return Plugin


def _dtype(kind: Any) -> str:
    """float16 for DataType.HALF, and so on; other types by TensorRT's own name."""
    name = str(kind).rpartition(".")[2]
    return {"HALF": "float16", "BF16": "bfloat16", "FLOAT": "float32"}.get(name, name.lower())
