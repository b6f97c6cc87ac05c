"""A lower bound on a picture's time and what it takes of memory: no forecast, for nothing runs at a device's rates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from x2i.runtime.bundle import Bundle

from .calls import Call, calls
from .devices import Device, Kind
from .liveness import peak_bytes
from .operations import work

WORKSPACE = 1.0
"""Scratch memory of a graph's kernels, as a share of its activations: assumed, until an engine on the device says."""

CONTEXT_BYTES = 0.5e9
"""What CUDA and its libraries take of a process: assumed."""

SYSTEM_BYTES = 1.5e9
"""What Linux and its services take of a memory that is shared, without a desktop: assumed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One graph at one set of shapes: what a call counts, and the least time that all calls take.

    `macs` are multiplications with their additions by type, `attention_macs` those among them between two activations;
    `weights` and `activations` bytes that a call moves at least; `peak` the most its tensors take at one time.
    """

    graph: str
    precision: str
    calls: int
    macs: dict[Kind, int]
    attention_macs: int
    weights: int
    activations: int
    peak: int
    compute_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        return self.calls * max(self.compute_seconds, self.memory_seconds)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the memory, in bytes, and whether the graphs give it or it is assumed."""

    part: str
    bytes: float
    origin: Literal["derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Every stage of one run, and its memory with all graphs open at once, as the runtime keeps them."""

    device: Device
    stages: tuple[Stage, ...]
    memory: tuple[Share, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def bytes(self) -> float:
        return sum(share.bytes for share in self.memory)


def estimate(bundle: Bundle, device: Device, options: Mapping[str, Any]) -> Estimate:
    """The bound for one run with these options of Pipeline. Raises InputError and PlanError."""
    made = calls(bundle, options)
    stages = tuple(_stage(bundle, device, call) for call in made)
    return Estimate(device, stages, _memory(bundle, device, stages))


def _stage(bundle: Bundle, device: Device, call: Call) -> Stage:
    done = work(call.graph)
    moved = sum(size for size in done.moved if size > device.cache)
    # Weights that stay on the chip from one call to the next need not be read again.
    read = done.weights if done.weights > device.cache else 0
    return Stage(
        graph=call.name,
        precision=bundle.manifest.graphs[call.name].precision,
        calls=call.count,
        macs=done.macs,
        attention_macs=done.attention_macs,
        weights=done.weights,
        activations=moved,
        peak=peak_bytes(call.graph),
        compute_seconds=sum(2 * count / device.rates[kind] for kind, count in done.macs.items()),
        memory_seconds=(read + moved) / device.bandwidth,
    )


def _memory(bundle: Bundle, device: Device, stages: tuple[Stage, ...]) -> tuple[Share, ...]:
    used = {stage.graph: bundle.manifest.graphs[stage.graph] for stage in stages}
    files = sum(bundle.manifest.files[name].bytes for graph in used.values() for name in (graph.file, *graph.data))
    peaks = {name: max(stage.peak for stage in stages if stage.graph == name) for name in used}
    shares = [
        Share("weights of the graphs that run", files, "derived"),
        Share("activations at their peak, each graph's own", sum(peaks.values()), "derived"),
        Share(f"workspace, {WORKSPACE:.0%} of the largest activations", WORKSPACE * max(peaks.values()), "assumed"),
        Share("CUDA and its libraries", CONTEXT_BYTES, "assumed"),
    ]
    return (*shares, Share("operating system", SYSTEM_BYTES, "assumed")) if device.shared else tuple(shares)
