"""What a process that builds one engine is told."""

from dataclasses import dataclass, field
from pathlib import Path

from ..manifest import Tensor
from ..sessions.graph_file import GraphFile
from .key import Range
from .profile import usual_shapes


@dataclass(frozen=True, slots=True)
class Job:
    """One engine: the graph's fields as `GraphFile` has them, `engines` being the bundle's folder, and how to build it.

    `library` is an import name, `device` the backend's own name of one; `inputs` are the graph's and `shapes` the range
    of every free size, both empty where OpenVINO's engine serves them all; the other fields are TensorRT's: the
    targets, and the folder of compiled kernels, empty for none.
    """

    library: str
    name: str
    path: str
    precision: str
    digest: str
    engines: str
    device: str = ""
    inputs: tuple[Tensor, ...] = ()
    shapes: dict[str, Range] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    kernels: str = ""

    def usual(self) -> dict[str, tuple[int, ...]] | None:
        """The usual shape of every input, None where the engine serves all."""
        if not self.inputs:
            return None
        return usual_shapes(self.inputs, self.shapes)

    @property
    def told(self) -> str:
        """The graph's name, with the shape of its first input where the engine serves one alone."""
        shapes = self.usual() if self.library == "openvino" else None
        if not shapes:
            return self.name
        name, shape = next(iter(shapes.items()))
        return f"{self.name} for {name} {'x'.join(map(str, shape))}"

    def graph(self, engines: Path) -> GraphFile:
        """The graph, with the folder that its engine is in or goes to."""
        return GraphFile(self.name, Path(self.path), self.precision, self.digest, engines)


@dataclass(frozen=True, slots=True)
class Built:
    """How it went: the engine's file name, seconds and peak memory in bytes, and remarks for the user.

    `there` says that nothing was built, for the very engine was in the bundle.
    """

    engine: str
    seconds: float
    peak_bytes: int
    remarks: tuple[str, ...] = ()
    there: bool = False
