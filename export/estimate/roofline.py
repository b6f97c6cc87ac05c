"""A roofline: a lower bound on a picture's time and its memory. It is no forecast; nothing runs at published rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from x2i.runtime.bundle.reader import Bundle

from .calls import EstimatedCall, graph_calls
from .devices import Device, Kind
from .operations import count_work, peak_bytes

WORKSPACE_SHARE = 1.0
"""Scratch memory of a graph's kernels, as a share of its activations: assumed, until an engine on the device says."""
CONTEXT_BYTES = 0.5e9
"""Memory of CUDA and its libraries in a process: assumed."""
SYSTEM_BYTES = 1.5e9
"""Memory of Linux and its services without a desktop, on devices that share it: assumed."""


@dataclass(frozen=True, slots=True)
class StageBound:
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
        """The least time of all calls: that of arithmetic or of memory, whichever is longer."""
        return self.calls * max(self.compute_seconds, self.memory_seconds)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the memory, in bytes, and whether it is derived from the graphs or assumed."""

    part: str
    bytes: float
    origin: Literal["derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Every stage of one run, and its memory with all graphs open at once, as the runtime keeps them."""

    device: Device
    stages: tuple[StageBound, ...]
    memory: tuple[Share, ...]

    @property
    def seconds(self) -> float:
        """The least time of a whole run."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def bytes(self) -> float:
        """The memory of a whole run, assumed shares included."""
        return sum(share.bytes for share in self.memory)


def estimate_bundle(bundle: Bundle, device: Device, options: Mapping[str, Any]) -> Estimate:
    """The bound for one run with these options of Pipeline. Raises InputError and PlanError."""
    made = graph_calls(bundle, options)
    stages = tuple(_stage(bundle, device, call) for call in made)
    return Estimate(device, stages, _memory(bundle, device, stages))


def _stage(bundle: Bundle, device: Device, call: EstimatedCall) -> StageBound:
    done = count_work(call.graph)
    moved = sum(size for size in done.moved if size > device.cache)
    # Weights that stay on the chip from one call to the next need not be read again.
    read = done.weights if done.weights > device.cache else 0
    return StageBound(
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


def _memory(bundle: Bundle, device: Device, stages: tuple[StageBound, ...]) -> tuple[Share, ...]:
    used = {stage.graph: bundle.manifest.graphs[stage.graph] for stage in stages}
    files = sum(bundle.manifest.files[name].bytes for graph in used.values() for name in (graph.file, *graph.data))
    peaks = {name: max(stage.peak for stage in stages if stage.graph == name) for name in used}
    shares = [
        Share("weights of the graphs that run", files, "derived"),
        Share("activations at their peak, each graph's own", sum(peaks.values()), "derived"),
        Share(
            f"workspace, {WORKSPACE_SHARE:.0%} of the largest activations",
            WORKSPACE_SHARE * max(peaks.values()),
            "assumed",
        ),
        Share("CUDA and its libraries", CONTEXT_BYTES, "assumed"),
    ]
    return (*shares, Share("operating system", SYSTEM_BYTES, "assumed")) if device.shared else tuple(shares)


BOUND = (
    "a lower bound and no forecast: it takes the published peak of arithmetic or of memory, whichever is slower, for "
    "every stage, so that measured times are longer"
)


def estimate_lines(estimate: Estimate) -> Iterator[str]:
    """The table for a terminal."""
    device = estimate.device
    rates = ", ".join(f"{kind} {rate / 1e12:g} T" for kind, rate in device.rates.items())
    yield f"{device.title}: {rates} operations/s, {device.bandwidth / 1e9:g} GB/s, {device.memory / 1e9:g} GB"
    yield f"  {device.source}"
    yield ""
    yield (
        f"{'stage':22} {'precision':12} {'calls':>5} {'TMAC':>8} {'weights, MB':>12} {'moved, MB':>10} "
        f"{'call, ms':>9} {'all, s':>8}  limited by"
    )
    for stage in estimate.stages:
        yield _row(stage)
    yield f"{'in all':22} {'':12} {'':>5} {'':>8} {'':>12} {'':>10} {'':>9} {estimate.seconds:8.3f}"
    yield f"  {BOUND}"
    yield ""
    for share in estimate.memory:
        yield f"{share.part:50} {share.bytes / 1e9:6.2f} GB  {share.origin}"
    yield f"{'in all, of ' + format(device.memory / 1e9, 'g') + ' GB':50} {estimate.bytes / 1e9:6.2f} GB"
    if estimate.bytes > device.memory:
        yield "  more than there is: lower the precision, the size or the count, or take fewer graphs"


def _row(stage: StageBound) -> str:
    call = max(stage.compute_seconds, stage.memory_seconds)
    limit = "arithmetic" if stage.compute_seconds >= stage.memory_seconds else "memory"
    return (
        f"{stage.graph:22} {stage.precision:12} {stage.calls:5d} {sum(stage.macs.values()) / 1e12:8.4f} "
        f"{stage.weights / 1e6:12.1f} {stage.activations / 1e6:10.1f} {call * 1e3:9.2f} {stage.seconds:8.3f}  {limit}"
    )
