"""A run's calls by graph: how long, how often, and what they have to compute and to move."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..bundle import Bundle
from ..errors import InputError
from ..plan import Plan, matches
from ..timings import Span
from .adapter import plain_graphs
from .record import Kind, Stage
from .recorder import Called
from .samples import Samples


def stages_of(
    bundle: Bundle, runs: Sequence[Sequence[Span]], called: Sequence[Called], macs: Mapping[str, int]
) -> tuple[Stage, ...]:
    """One for each graph of the recorded `runs`, in the order of their first calls; `macs` by graph, where counted."""
    plan, own = bundle.manifest.plan, bundle.manifest.graphs
    plain = {name for pattern in plain_graphs(plan) for name in matches(pattern, set(own)).values()}
    # Variants of a denoiser are the denoiser's.
    plain |= {name for name in own if name.startswith(tuple(f"{segment.graph}." for segment in plan.segments))}
    moved = _moved(bundle, called)
    stages = []
    for name in dict.fromkeys(span.name for span in runs[0]):
        seconds = Samples(tuple(sum(span.seconds for span in run if span.name == name) for run in runs))
        number = sum(span.name == name for span in runs[0])
        kind: Kind = _kind(plan, name) if name in own else "other"
        precision = str(own[name].precision) if name in own else ""
        weights = _weights(bundle, name) if name in own else 0
        adapter = name not in plain
        stages.append(
            Stage(name, kind, number, seconds, precision, macs.get(name), weights, moved.get(name, 0), adapter)
        )
    return tuple(stages)


def counted(bundle: Bundle, called: Sequence[Called]) -> dict[str, int]:
    """Multiplications with their additions of one run by graph; a graph that ONNX Runtime cannot run as it is written
    is left out."""
    from .onnxruntime_profiler import products

    found: defaultdict[str, int] = defaultdict(int)
    unknown = set()
    for one in called:
        try:
            found[one.graph] += one.count * products(bundle.graph_file(one.graph).path, one.arrays)
        except InputError:
            unknown.add(one.graph)
    return {name: macs for name, macs in found.items() if name not in unknown}


def _kind(plan: Plan, name: str) -> Kind:
    if name == plan.decoder.graph:
        return "decode"
    if any(name == segment.graph or name.startswith(f"{segment.graph}.") for segment in plan.segments):
        return "denoise"
    return "project" if "projection" in name else "encode"


def _moved(bundle: Bundle, called: Sequence[Called]) -> dict[str, int]:
    """Bytes that all calls of a run read and write at least: the weights and what goes in and comes out."""
    found: defaultdict[str, int] = defaultdict(int)
    for one in called:
        given = sum(array.nbytes for array in one.arrays.values())
        found[one.graph] += one.count * (_weights(bundle, one.graph) + given + one.made)
    return dict(found)


def _weights(bundle: Bundle, name: str) -> int:
    graph = bundle.manifest.graphs[name]
    return sum(bundle.manifest.files[file].bytes for file in (graph.file, *graph.data))
