"""The op as a plugin of TensorRT-RTX and of TensorRT 10 and 11: one class for whichever of the modules is given.

At build time the plugin takes the compiled kernels that it was registered with and writes those that a node needs into
the engine. At run time it takes them from there, so that running an engine needs neither Triton nor the files.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import KernelError
from .cubins import Cubin, read_cubins
from .engine_op import EngineOp
from .op import DOMAIN, INPUTS, NAME, VERSION
from .parser_library import let_parser_find_library

_VERSION = str(VERSION)


def register(tensorrt: ModuleType, kernels: Iterable[Cubin] = ()) -> None:
    """Makes the plugin known to `tensorrt` or `tensorrt_rtx`, whichever module is given.

    To build engines it needs `kernels` (`read_cubins`), to run them none; registering again replaces them.
    Raises KernelError where the plugin could not be parsed or registered; without it, the function body is used.
    """
    if tensorrt.__name__ == "tensorrt_rtx":
        let_parser_find_library(tensorrt)
    creator = _creator(tensorrt)
    creator.kernels = tuple(kernels)
    registry = tensorrt.get_plugin_registry()
    if registry.get_creator(NAME, _VERSION, DOMAIN) is None and not registry.register_creator(creator, DOMAIN):
        raise KernelError(f"{tensorrt.__name__} {tensorrt.__version__} refused to register {DOMAIN}::{NAME}")


def register_compiled(tensorrt: ModuleType, folder: Path | None = None) -> None:
    """`register` with the compiled kernels of a folder; to run engines, none is needed."""
    register(tensorrt, () if folder is None else read_cubins(folder))


@cache
def _creator(tensorrt: ModuleType) -> Any:
    """The creator, which must live as long as the registry: as long as the process."""
    plugin = _plugin_class(tensorrt)

    class Creator(tensorrt.IPluginCreatorV3One):  # type: ignore[name-defined]
        kernels: tuple[Cubin, ...] = ()

        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_version, self.plugin_namespace = NAME, _VERSION, DOMAIN
            kinds = tensorrt.PluginFieldType
            declared = {"num_heads": kinds.INT32, "scale": kinds.FLOAT32}
            empty = [tensorrt.PluginField(name, np.array([]), kind) for name, kind in declared.items()]
            self.field_names = tensorrt.PluginFieldCollection(empty)

        def create_plugin(self, name: str, fields: Iterable[Any], phase: Any) -> Any:
            return plugin(EngineOp.from_fields({field.name: field.data for field in fields}, self.kernels))

    return Creator()


def _plugin_class(tensorrt: ModuleType) -> Any:
    bases = (
        tensorrt.IPluginV3,
        tensorrt.IPluginV3OneCore,
        tensorrt.IPluginV3OneBuild,
        tensorrt.IPluginV3OneRuntime,
    )

    class Plugin(*bases):  # type: ignore[misc]
        """The calls that TensorRT makes, in the order in which it makes them."""

        def __init__(self, op: EngineOp) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, _VERSION, DOMAIN
            self.num_outputs = 1
            self.op = op

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(self.op)

        def get_output_data_types(self, types: Sequence[Any]) -> list[Any]:
            return [types[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, builder: Any) -> list[Any]:
            return [tensorrt.DimsExprs(inputs[0])]

        def supports_format_combination(self, position: int, tensors: Sequence[Any], count: int) -> bool:
            wanted = {"token_index": tensorrt.DataType.INT64, "strength": tensorrt.DataType.FLOAT}
            name = INPUTS[position] if position < count else "output"
            found = tensors[position].desc
            right = found.type == wanted.get(name, tensors[0].desc.type)
            return bool(right and found.format == tensorrt.TensorFormat.LINEAR)

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            query = inputs[0].desc
            self.op = self.op.configured(_dtype(query.type), query.dims[2])

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            samples, queries, _ = inputs[0].max
            return self.op.workspace_size(samples, queries)

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None:
            pass

        def get_fields_to_serialize(self) -> Any:
            # TensorRT reads the arrays after this returns.
            self.serialized = self.op.fields()
            kinds = {np.int32: "INT32", np.float32: "FLOAT32", np.int8: "INT8"}
            return tensorrt.PluginFieldCollection(
                [
                    tensorrt.PluginField(name, value, getattr(tensorrt.PluginFieldType, kinds[value.dtype.type]))
                    for name, value in self.serialized.items()
                ]
            )

        def attach_to_context(self, context: Any) -> Any:
            return Plugin(self.op.attached())

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            query = inputs[0]
            self.op = self.op.configured(_dtype(query.type), query.dims[2])

        def enqueue(
            self,
            inputs: Sequence[Any],
            outputs: Sequence[Any],
            addresses: Sequence[int],
            output_addresses: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            sizes = (*tuple(inputs[0].dims)[:2], inputs[1].dims[1], inputs[3].dims[1])
            pointers = dict(zip(INPUTS, addresses, strict=True)) | {"output": output_addresses[0]}
            self.op.enqueue(sizes, pointers, workspace, stream)

    return Plugin


def _dtype(kind: Any) -> str:
    """float16 for DataType.HALF, and so on; other types by TensorRT's own name."""
    name = str(kind).rpartition(".")[2]
    return {"HALF": "float16", "BF16": "bfloat16", "FLOAT": "float32"}.get(name, name.lower())
