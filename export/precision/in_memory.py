"""A model as it is in memory, run on ONNX Runtime's CPU; weights that are in a file stay there."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from .samples import Arrays


class InMemory:
    """Runs a model whose external weights, if any, lie in `folder`.

    `folded` lets the session compute what depends on weights alone when it opens, and keep it.
    """

    def __init__(self, model: ir.Model, folder: Path, folded: bool = True):
        self._outputs = [value.name or "" for value in model.graph.outputs]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        self._session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=None if folded else ["ConstantFolding"],
        )

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
