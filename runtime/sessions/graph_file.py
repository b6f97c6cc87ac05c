"""A graph on disk, as a backend opens it."""

from dataclasses import dataclass
from pathlib import Path

from ..manifest import Tensor


@dataclass(frozen=True, slots=True)
class GraphFile:
    """An ONNX file and what a backend must know beside it.

    `precision` is the manifest's name of it; `digest` the SHA-256 over the graph and its external data, empty where it
    was not taken; `engines` the folder that keeps the bundle's engines, None where there is no bundle; `inputs` and
    `outputs` are the manifest's, empty where there is none; `bytes` are those of the graph and its external data, and
    `looped` says that every step of a run calls it, both where a bundle's manifest tells.
    """

    name: str
    path: Path
    precision: str = "fp32"
    digest: str = ""
    engines: Path | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    bytes: int = 0
    looped: bool = False
