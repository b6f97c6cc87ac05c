"""Weights in a file of their own that may have a second name: bundles of one base share files on disk.

ONNX's libraries refuse a file with several names, since it could be anybody's; a bundle's is known by its digest.
"""

from pathlib import Path

import onnx_ir as ir


class LinkedTensor(ir.ExternalTensor):
    """Read when it is needed, from below `base_dir` alone."""

    def _check_path_containment(self) -> None:
        home, path = Path(self.base_dir).resolve(), Path(self.path).resolve()
        if not path.is_relative_to(home):
            raise ValueError(f"{self.name}: expected weights in {home}, got {path}")


def read_linked(graph: ir.Graph, folder: Path) -> None:
    """Lets every weight that lies in a file of its own be read from `folder`, whatever other names the file has."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = LinkedTensor(
                tensor.location,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=tensor.name or "",
                base_dir=folder,
            )
