"""A run's calls by graph - how long, how often, what they compute and move - and what the adapter among them costs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from ..bundle.calls import matches
from ..bundle.plan import Plan
from ..bundle.reader import Bundle
from ..errors import InputError
from ..output import Span
from ..sessions.session import Session
from .operators import products
from .record import AdapterCost, Kind, Samples, StageTime
from .recorder import CapturedCall

INJECTED = ("local_key", "local_value")
"""Inputs of the denoiser that hold the keys and values of the second attention."""
PAIRS = 7
HOW = (
    "stages: graphs that a plain text-to-image model has no use for, and what it would call once; "
    "second attention: denoiser calls against the same with a single injected token, in turns, times their number"
)


def plain_graphs(plan: Plan) -> set[str]:
    """Graphs of a plain model of the same base, names as the plan has them: what reads the prompt's tokens first, what
    makes the first segment's keys, the denoisers and the decoder. A system that draws tokens, in several stages or by
    several denoisers stands on no other model: its graphs are all its own."""
    if not plan.walks_latents or len(plan.processes) > 1 or len(plan.denoisers()) > 1:
        return set(plan.graphs())
    first = plan.processes[0].segments[0].context
    kept = {slot for name, slot in first.items() if name.startswith(("key", "value", "context"))}
    found = {*plan.denoisers(), *(graph for process in plan.processes for graph in process.tail_graphs())}
    for conditioner in plan.conditioners:
        for stage in conditioner.stages:
            reads_prompt = conditioner.text is not None and "input_ids" in stage.inputs.values()
            if reads_prompt or kept & set(stage.outputs.values()):
                found.add(stage.graph)
    return found


def adapter_cost(stages: Sequence[StageTime], attention: float | None, picture: float) -> AdapterCost:
    """What the adapter adds to a run of `picture` seconds; `attention` are those of the second attention."""
    own = sum(stage.seconds.p50 for stage in stages if stage.adapter)
    own += sum(stage.seconds.p50 * (1 - 1 / stage.calls) for stage in stages if _repeated(stage))
    added = own + max(0.0, attention or 0.0)
    plain = picture - added
    return AdapterCost(own, attention, added / plain if plain > 0 else None, HOW)


def _repeated(stage: StageTime) -> bool:
    return stage.calls > 1 and not stage.adapter and stage.kind in ("encode", "project")


def second_attention(called: Iterable[CapturedCall], session: Callable[[str], Session]) -> float | None:
    """Seconds that the injected tokens cost in one run; None where no graph takes such, or none takes a single one."""
    found = None
    for one in called:
        if any(name.startswith(INJECTED) for name in one.arrays):
            cut = replace(one, bound=_cut(one.bound), rest=_cut(one.rest))
            opened = session(one.graph)
            found = (found or 0.0) + one.count * _difference(one.replay(opened), cut.replay(opened))
    return found


def _cut(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(array[:, :1]) if name.startswith(INJECTED) else array
        for name, array in arrays.items()
    }


def _difference(whole: Callable[[], object], cut: Callable[[], object]) -> float:
    """Median of what the whole call takes longer than the cut one, each pair in turns, after one of both."""
    differences = []
    for _ in range(PAIRS + 1):
        start = time.perf_counter()
        cut()
        middle = time.perf_counter()
        whole()
        differences.append((time.perf_counter() - middle) - (middle - start))
    return median(differences[1:])


def stages_of(
    bundle: Bundle, runs: Sequence[Sequence[Span]], called: Sequence[CapturedCall], macs: Mapping[str, int]
) -> tuple[StageTime, ...]:
    """One for each graph of the recorded `runs`, in the order of their first calls; `macs` by graph, where counted."""
    plan, own = bundle.manifest.plan, bundle.manifest.graphs
    plain = {name for pattern in plain_graphs(plan) for name in matches(pattern, set(own)).values()}
    # Variants of a denoiser are the denoiser's.
    plain |= set(filter(plan.in_loop, own))
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
            StageTime(name, kind, number, seconds, precision, macs.get(name), weights, moved.get(name, 0), adapter)
        )
    return tuple(stages)


def counted(bundle: Bundle, called: Iterable[CapturedCall]) -> dict[str, int]:
    """Multiplications with their additions of one run by graph; a graph that ONNX Runtime cannot run as it is written
    is left out."""
    found: defaultdict[str, int] = defaultdict(int)
    unknown = set()
    for one in called:
        try:
            found[one.graph] += one.count * products(bundle.graph_file(one.graph).path, one.arrays)
        except InputError:
            unknown.add(one.graph)
    return {name: macs for name, macs in found.items() if name not in unknown}


def _kind(plan: Plan, name: str) -> Kind:
    if any(name in process.tail_graphs() for process in plan.processes):
        return "decode"
    if plan.in_loop(name):
        return "denoise"
    return "project" if "projection" in name else "encode"


def _moved(bundle: Bundle, called: Sequence[CapturedCall]) -> dict[str, int]:
    """Bytes that all calls of a run read and write at least: the weights and what goes in and comes out."""
    found: defaultdict[str, int] = defaultdict(int)
    for one in called:
        given = sum(array.nbytes for array in one.arrays.values())
        found[one.graph] += one.count * (_weights(bundle, one.graph) + given + one.output_bytes)
    return dict(found)


def _weights(bundle: Bundle, name: str) -> int:
    graph = bundle.manifest.graphs[name]
    return sum(bundle.manifest.files[file].bytes for file in (graph.file, *graph.data))
