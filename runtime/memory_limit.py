"""Drawing under a limit of memory: which graphs lie in it together, and what each part of a run needs at its peak."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .bundle.reader import Bundle
from .engines.shape_ranges import shape_ranges, usual_shapes
from .errors import InputError
from .inputs.option import short
from .sessions.backends import BACKENDS, on_cpu
from .sessions.openvino_support import uses_static_shapes
from .sessions.session import GraphFile

PROCESS_BYTES = 200_000_000
"""Bytes of Python, numpy, the session library and what a run keeps from part to part."""
BYTES_PER_FILE_BYTE = {
    "cpu": {"fp32": 2.8, "fp16": 4.0, "int8": 1.4},
    "openvino": {"fp32": 1.3, "bf16": 1.3, "fp16": 4.0, "int8": 1.3},
}
"""Bytes of memory for a byte of a graph's file, opened and used. Measured at full size: OpenVINO's int8 (1.0, compiled
anew), ONNX Runtime's int8 (1.2) and fp16 (3.9), fp32 up to 500 MB (cpu 2.6, openvino 0.6); the rest is an estimate with
room to spare."""
BYTES_PER_FILE_BYTE_WITH_ENGINE = {
    "cpu": {"fp32": 0.2, "fp16": 0.2, "int8": 0.2},
    "openvino": {"fp32": 1.3, "bf16": 1.3, "fp16": 2.6, "int8": 1.3},
}
"""The same where the weights are mapped from an engine, which counts for nothing: the system may drop what was read.
Measured: ONNX Runtime's int8 (0.05), OpenVINO's int8 (1.2) and fp32 up to 500 MB (0.7); the rest is an estimate."""
DECODER_BYTES_PER_PIXEL = 5500
"""What Stable Diffusion's decoder computes with: measured for 512 x 512, 4500 on cpu and 5400 on openvino."""
ENCODER_BYTES_PER_PIXEL = 5500
"""What its encoder computes with: counted like the decoder, whose widest layers have twice its channels."""
DENOISER_BYTES_PER_CELL = {"cpu": 130_000, "openvino": 40_000}
"""What Stable Diffusion's UNet computes with, for each cell of one row of latents: measured, 130 000 on cpu (256 x 256)
and 30 000 on openvino (512 x 512)."""
ATTENTION_BYTES_PER_PAIR = {"cpu": 96, "openvino": 0}
"""And for each pair of cells where attention weights are written out: three times eight heads of float32."""
MAX_SIZE_BYTES = 2**60
"""More than any machine has, and what is still counted without loss."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True, slots=True)
class RunShape:
    """What is drawn: latents of `cells` cells (height times width), one row for each of the `sides` of the guidance
    that are called at once, and each of `count` pictures. `calls` are the kinds of call that differ in their shapes:
    two where the guidance ends on the way."""

    cells: int = 0
    count: int = 0
    sides: int = 0
    calls: int = 1


def parsed_size(text: str | int, name: str = "max_memory") -> int:
    """Bytes of `4GB`, `512MiB` or a plain number, the value of the option `name`; raises InputError for anything else,
    and beyond `MAX_SIZE_BYTES`."""
    size: float = text if isinstance(text, int) and not isinstance(text, bool) else 0
    if isinstance(text, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())):
        size = float(found[1]) * _UNITS[found[2] or ""]
    if not 1 <= size <= MAX_SIZE_BYTES:
        raise InputError(f"{name}: expected a size such as 4GB or 512MiB, got {short(text)}")
    return int(size)


class MemoryLimit:
    """A limit in bytes for one bundle on one backend, for one call at a time: of the process's own memory, without the
    files that are mapped into it.

    A denoiser and its variants, between which the steps go to and fro, stay together. Every other graph is alone, and
    so is each of several denoisers that take over from one another. Raises InputError for a backend whose graphs lie in
    another memory than the process's.
    """

    def __init__(self, limit: int, bundle: Bundle, backend: str):
        name = backend.partition(":")[0]
        if not on_cpu(backend):
            wanted = f"expected a backend in the CPU's memory, {' or '.join(BYTES_PER_FILE_BYTE)}, got {backend}"
            raise InputError(f"max_memory: {wanted}; leave the limit out, or choose another backend")
        self._limit, self._bundle, self._name = limit, bundle, name

    def co_resident(self, graph: str, other: str) -> bool:
        """Whether two graphs are in memory together: a denoiser and its variants are, no others."""
        plan = self._bundle.manifest.plan
        denoiser = plan.denoiser_of(graph)
        return denoiser is not None and denoiser == plan.denoiser_of(other)

    def first_that_fits(self, runs: Sequence[RunShape], graphs: Sequence[str]) -> RunShape:
        """The first of these runs that keeps to the limit.

        Raises InputError where none does. It names the part that needs most in the run that needs least.
        """
        largest = [max(self.peak_bytes(run, graphs).items(), key=lambda found: found[1]) for run in runs]
        for run, (_, needed) in zip(runs, largest, strict=True):
            if needed <= self._limit:
                return run
        part, needed = min(largest, key=lambda found: found[1])
        what = f"{part} needs at its peak" if runs[0].count else f"the weights of {part} need alone"
        raise InputError(
            f"max_memory: expected at least {needed / 1e9:.2f} GB, which {what}, got "
            f"{self._limit / 1e9:.2f} GB; raise the limit, draw fewer or smaller pictures, build the bundle's "
            f"engines (x2i build BUNDLE --for {self._name}), or use a bundle of a lower precision (x2i lower)"
        )

    def peak_bytes(self, run: RunShape, graphs: Sequence[str]) -> dict[str, int]:
        """Bytes that each part of a run needs at its peak, those of the process included.

        Parts are named by their graphs. A denoiser and its variants are one part, "denoiser and denoiser.takes-...".
        """
        plan = self._bundle.manifest.plan
        denoisers = {graph: plan.denoiser_of(graph) for graph in graphs}
        found = {graph: PROCESS_BYTES + self._weights(graph, run) for graph, own in denoisers.items() if own is None}
        cells = run.cells * run.count
        for process in plan.processes:
            for graph in (graph for graph in process.tail_graphs() if graph in found):
                found[graph] += DECODER_BYTES_PER_PIXEL * cells * process.canvas.factor**2
        for graph in (graph for graph in plan.start_graphs() if graph in found):
            found[graph] += ENCODER_BYTES_PER_PIXEL * cells * plan.process.canvas.factor**2
        for process in plan.processes:
            canvas = process.canvas
            # An earlier process of one size draws that, whatever the picture's is.
            own = prod(canvas.cells(canvas.size)) if canvas.fixed and process is not plan.process else run.cells
            attention = ATTENTION_BYTES_PER_PAIR[self._name] * own
            computed = (DENOISER_BYTES_PER_CELL[self._name] + attention) * own * run.count * run.sides
            for denoiser in dict.fromkeys(segment.graph for segment in process.segments):
                loop = [graph for graph, found_of in denoisers.items() if found_of == denoiser]
                found[" and ".join(loop)] = PROCESS_BYTES + sum(self._weights(graph, run) for graph in loop) + computed
        return found

    def _weights(self, graph: str, run: RunShape) -> int:
        file = self._bundle.graph_file(graph)
        fixed = self._name == "openvino" and uses_static_shapes(file, "")
        prepared = self._has_engines(file, run) if fixed else BACKENDS[self._name].prepared(file, None)
        times = (BYTES_PER_FILE_BYTE_WITH_ENGINE if prepared else BYTES_PER_FILE_BYTE)[self._name]
        held = file.bytes * (run.calls if fixed else 1)
        return round(held * times.get(file.precision, max(times.values())))

    def _has_engines(self, graph: GraphFile, run: RunShape) -> bool:
        """Whether a graph has OpenVINO's engines for the shapes of a run, which is asked for the usual size alone. For
        a run without pictures any shapes will do."""
        manifest, prepared = self._bundle.manifest, BACKENDS[self._name].prepared
        if not run.count:
            return prepared(graph, None)
        canvas = manifest.plan.process.canvas
        if (run.cells, run.count) != (prod(canvas.cells(canvas.size)), 1):
            return False
        rows = range(run.sides, run.sides - run.calls, -1)
        known = [shape_ranges(manifest, (), 1, sides) for sides in rows]
        if any(graph.name not in each for each in known):
            # One that takes LoRAs: nobody says of what rank.
            return False
        ranges = [each[graph.name] for each in known]
        return all(prepared(graph, usual_shapes(graph.inputs, one)) for one in ranges)
