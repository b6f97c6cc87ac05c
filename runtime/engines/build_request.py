"""What `x2i build` was asked for, checked against the bundle and the machine: one job an engine, or every
problem at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from .. import machine
from ..bundle.calls import Tensor
from ..bundle.cfg_batch import cfg_batch_sizes
from ..bundle.manifest import Manifest
from ..bundle.reader import Bundle
from ..errors import InputError
from ..sessions.openvino_support import uses_static_shapes
from ..sessions.session import GraphFile
from . import plugin, tensorrt_key
from .gpu import gpu_problem
from .key import Range
from .shape_ranges import shape_ranges, usual_shapes


@dataclass(frozen=True, slots=True)
class BuildJob:
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
    def label(self) -> str:
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
class BuildResult:
    """How it went: the engine's file name, seconds and peak memory in bytes, and remarks for the user.

    `cached` says that nothing was built, for the bundle had the very engine.
    """

    engine: str
    seconds: float
    peak_bytes: int
    remarks: tuple[str, ...] = ()
    cached: bool = False


LIBRARIES = {
    "cpu": "onnxruntime",
    "openvino": "openvino",
    "rtx": tensorrt_key.RTX,
    "tensorrt": tensorrt_key.TENSORRT,
}
"""Import names of the libraries by the names of their backends."""
SERVING_ALL = {"cpu": "ONNX Runtime's", "openvino": "OpenVINO's"}
"""Whose engines serve all sizes, those for fixed shapes left out (see `uses_static_shapes`), by the names of their
backends."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One call of the command: `backend` is a key of `LIBRARIES`, `sizes` are (height, width) in pixels, `lora` is the
    rank of engines that take LoRAs, which are built with the others then, as is the one that takes painted words with
    `paint`."""

    backend: str
    device: str = ""
    targets: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    count: int = 1
    graphs: tuple[str, ...] = ()
    kernels: Path | None = None
    lora: int | None = None
    paint: bool = False

    def jobs(self, bundle: Bundle) -> list[BuildJob]:
        """One job for every engine wanted, in the plan's order; raises InputError with every problem."""
        if problems := list(self._problems(bundle)):
            raise InputError(*problems)
        manifest = bundle.manifest
        profiles = shape_ranges(manifest, self.sizes, self.count, lora=self.lora, paint=self.paint)
        return [
            self._job(file, shapes)
            for file in map(bundle.graph_file, profiles)
            if not self.graphs or file.name in self.graphs
            for shapes in (self._fixed(manifest, file.name) if self._fixes(file) else [profiles[file.name]])
        ]

    def _fixes(self, graph: GraphFile) -> bool:
        return self.backend == "openvino" and uses_static_shapes(graph, self.device.upper())

    def _fixed(self, manifest: Manifest, name: str) -> Iterator[dict[str, Range]]:
        """One set of shapes for each size, and for guided and unguided calls where there are both."""
        for size in self.sizes or (manifest.plan.process.canvas.size,):
            for sides in cfg_batch_sizes(manifest.plan, name):
                yield shape_ranges(manifest, [size], self.count, sides, self.lora, self.paint)[name]

    def _job(self, graph: GraphFile, shapes: dict[str, Range]) -> BuildJob:
        assert graph.engines is not None, "a bundle's graph without its folder of engines"
        path, engines = str(graph.path.absolute()), str(graph.engines.absolute())
        job = BuildJob(LIBRARIES[self.backend], graph.name, path, graph.precision, graph.digest, engines)
        if self.backend == "cpu":
            return job
        if self.backend == "openvino":
            job = replace(job, device=self.device)
            return replace(job, inputs=graph.inputs, shapes=shapes) if self._fixes(graph) else job
        kernels = "" if self.kernels is None else str(self.kernels.absolute())
        return replace(job, inputs=graph.inputs, shapes=shapes, targets=self.targets, kernels=kernels)

    def _problems(self, bundle: Bundle) -> Iterator[str]:
        there = bundle.manifest.graphs
        if missing := [name for name in self.graphs if name not in there]:
            yield f"--graph: expected one of {', '.join(there)}, got {', '.join(missing)}"
        takes_lora = bundle.manifest.plan.lora_graphs().values()
        if self.lora is None and (asked := [name for name in self.graphs if name in takes_lora]):
            yield f"--graph: {', '.join(asked)} takes LoRAs; add --lora with the largest rank of theirs together"
        if self.lora is not None and not takes_lora:
            yield "--lora: expected a bundle whose graphs take LoRAs, got one from before; export it again"
        paint = bundle.manifest.plan.paint
        if not self.paint and paint is not None and (asked := [v for v in paint.variants if v in self.graphs]):
            yield f"--graph: {', '.join(asked)} takes painted words; add --paint"
        if self.paint and paint is None:
            yield "--paint: expected a bundle whose denoiser takes painted words, got another; export it again"
        library = LIBRARIES[self.backend]
        if find_spec(library) is None:
            yield f"--for {self.backend}: needs {library}; pip install 'x2i-edge[{self.backend}]'"
        yield from self._target_problems()
        if self.backend == "tensorrt" and (problem := gpu_problem()) is not None:
            yield f"--for tensorrt: builds on the GPU that will run the engine: {problem}"
        yield from self._option_problems(any(self._fixes(bundle.graph_file(name)) for name in there))

    def _target_problems(self) -> Iterator[str]:
        known = tensorrt_key.RTX_TARGETS
        if self.targets and self.backend != "rtx":
            yield f"--target: TensorRT-RTX alone builds for other GPUs, got --for {self.backend}; leave --target out"
        elif unknown := [target for target in self.targets if target not in known]:
            yield (
                f"--target: TensorRT-RTX builds for {', '.join(known)}, got {', '.join(unknown)}; for other GPUs build "
                "with --for tensorrt on the device"
            )

    def _option_problems(self, fixes: bool) -> Iterator[str]:
        """What engines for all sizes have no use for, and kernels that are not there; `fixes` says that some engines
        serve one size alone."""
        if self.device and self.backend != "openvino":
            yield f"--for: expected a device behind openvino alone, got {self.backend}:{self.device}"
        if self.backend == "cpu" and (problem := machine.cpu_problem()) is not None:
            yield f"--for cpu: {problem}"
        if self.backend not in SERVING_ALL:
            if self.kernels is not None:
                yield from _kernel_problems(self.kernels)
            return
        given = {"--size": self.sizes and not fixes, "--count": self.count > 1 and not fixes}
        for option in (name for name, value in (given | {"--kernels": self.kernels}).items() if value):
            yield f"{option}: {SERVING_ALL[self.backend]} engines serve every size and have no use for it; leave it out"


def _kernel_problems(folder: Path) -> tuple[str, ...]:
    try:
        plugin.kernels_digest(folder)
    except InputError as error:
        return error.problems
    return ()
