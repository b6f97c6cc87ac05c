"""Drawing under a limit of memory: which graphs lie in it together, and what each part of a run needs at its peak."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .bundle.reader import Bundle
from .engines.shape_ranges import shape_ranges, usual_shapes
from .errors import InputError
from .sessions.backends import BACKENDS, on_cpu
from .sessions.openvino_support import uses_static_shapes
from .sessions.session import GraphFile

PROCESS = 200_000_000
"""Bytes of Python, numpy, the session library and what a run keeps from part to part."""
TIMES_THE_FILE = {
    "cpu": {"fp32": 2.8, "fp16": 4.0, "int8": 1.4},
    "openvino": {"fp32": 2.2, "bf16": 2.2, "fp16": 4.0, "int8": 2.3},
}
"""Bytes of memory for a byte of a graph's file, opened and used. Measured at full size: OpenVINO's int8 (2.1, compiled
anew), ONNX Runtime's int8 (1.2) and fp16 (3.9), fp32 up to 500 MB (cpu 2.6, openvino 1.7); the rest is an estimate with
room to spare."""
TIMES_WITH_ENGINE = {
    "cpu": {"fp32": 0.2, "fp16": 0.2, "int8": 0.2},
    "openvino": {"fp32": 1.3, "bf16": 1.3, "fp16": 2.6, "int8": 1.3},
}
"""The same where the weights are mapped from an engine, which counts for nothing: the system may drop what was read.
Measured: ONNX Runtime's int8 (0.05), OpenVINO's int8 (1.2) and fp32 up to 500 MB (0.7); the rest is an estimate."""
DECODER_BYTES_PER_PIXEL = 5500
"""What Stable Diffusion's decoder computes with: measured for 512 x 512, 4500 on cpu and 5400 on openvino."""
DENOISER_BYTES_PER_CELL = {"cpu": 130_000, "openvino": 40_000}
"""What Stable Diffusion's UNet computes with, for each cell of one row of latents: measured, 130 000 on cpu (256 x 256)
and 30 000 on openvino (512 x 512)."""
ATTENTION_BYTES_PER_PAIR = {"cpu": 96, "openvino": 0}
"""And for each pair of cells where attention weights are written out: three times eight heads of float32."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True, slots=True)
class RunShape:
    """What is drawn: latents of `cells` cells, one row for each of the `sides` of the guidance that are called at once,
    and each of `count` pictures. `calls` are the kinds of call that differ in their shapes: two where the guidance ends
    on the way."""

    cells: int = 0
    count: int = 0
    sides: int = 0
    calls: int = 1


def parsed_size(text: str | int) -> int:
    """Bytes of `4GB`, `512MiB` or a plain number; raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", str(text).strip().upper())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if size <= 0:
        raise InputError(f"max_memory: expected a size such as 4GB or 512MiB, got {text!r}")
    return size


class MemoryLimit:
    """A limit in bytes for one bundle on one backend, for one call at a time: of the process's own memory, without the
    files that are mapped into it.

    Graphs of the denoising loop stay together, every other graph is alone. Raises InputError for a backend whose graphs
    lie in another memory than the process's.
    """

    def __init__(self, limit: int, bundle: Bundle, backend: str):
        name = backend.partition(":")[0]
        if not on_cpu(backend):
            told = f"expected a backend in the CPU's memory, {' or '.join(TIMES_THE_FILE)}, got {backend}"
            raise InputError(f"max_memory: {told}; leave the limit out, or choose another backend")
        self._limit, self._bundle, self._name = limit, bundle, name

    def beside(self, graph: str, other: str) -> bool:
        """Whether two graphs are in memory together."""
        plan = self._bundle.manifest.plan
        return plan.in_loop(graph) and plan.in_loop(other)

    def first_within(self, works: Sequence[RunShape], graphs: Sequence[str]) -> RunShape:
        """The first of these ways to draw that keeps to the limit; raises InputError where none does, naming the part
        that needs most in the one that needs least."""
        largest = [max(self.needs(work, graphs).items(), key=lambda found: found[1]) for work in works]
        for work, (_, needed) in zip(works, largest, strict=True):
            if needed <= self._limit:
                return work
        part, needed = min(largest, key=lambda found: found[1])
        what = f"{part} needs at its peak" if works[0].count else f"the weights of {part} need alone"
        raise InputError(
            f"max_memory: expected at least {needed / 1e9:.2f} GB, which {what}, got "
            f"{self._limit / 1e9:.2f} GB; raise the limit, draw fewer or smaller pictures, build the bundle's "
            f"engines (x2i build BUNDLE --for {self._name}), or use a bundle of a lower precision (x2i lower)"
        )

    def needs(self, work: RunShape, graphs: Sequence[str]) -> dict[str, int]:
        """Bytes that each part of a run needs at its peak, the process included; parts are named by their graphs."""
        plan = self._bundle.manifest.plan
        loop = [graph for graph in graphs if plan.in_loop(graph)]
        found = {graph: PROCESS + self._weights(graph, work) for graph in graphs if graph not in loop}
        cells = work.cells * work.count
        found[plan.decoder.graph] += DECODER_BYTES_PER_PIXEL * cells * plan.decoder.factor**2
        attention = ATTENTION_BYTES_PER_PAIR[self._name] * work.cells
        computed = (DENOISER_BYTES_PER_CELL[self._name] + attention) * cells * work.sides
        return found | {" and ".join(loop): PROCESS + sum(self._weights(graph, work) for graph in loop) + computed}

    def _weights(self, graph: str, work: RunShape) -> int:
        file = self._bundle.graph_file(graph)
        fixed = self._name == "openvino" and uses_static_shapes(file, "")
        prepared = self._has_engines(file, work) if fixed else BACKENDS[self._name].prepared(file, None)
        times = (TIMES_WITH_ENGINE if prepared else TIMES_THE_FILE)[self._name]
        held = file.bytes * (work.calls if fixed else 1)
        return round(held * times.get(file.precision, max(times.values())))

    def _has_engines(self, graph: GraphFile, work: RunShape) -> bool:
        """Whether a graph has OpenVINO's engines for the shapes of this work, which none but the usual size is asked
        for; in a work without pictures, for any shapes."""
        manifest, prepared = self._bundle.manifest, BACKENDS[self._name].prepared
        if not work.count:
            return prepared(graph, None)
        height, width = manifest.plan.decoder.size
        if (work.cells, work.count) != (height * width // manifest.plan.decoder.factor**2, 1):
            return False
        rows = range(work.sides, work.sides - work.calls, -1)
        ranges = [shape_ranges(manifest, (), 1, sides)[graph.name] for sides in rows]
        return all(prepared(graph, usual_shapes(graph.inputs, one)) for one in ranges)
