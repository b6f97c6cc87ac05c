"""What the adapter costs beyond the plain model: stages of its own, and the denoiser's second attention."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from ..plan import Plan
from ..sessions.session import Session
from .record import Adapter, Stage
from .recorder import Called

INJECTED = ("local_key", "local_value")
"""Inputs of the denoiser that hold the keys and values of the second attention."""
PAIRS = 7
HOW = (
    "stages: graphs that a plain text-to-image model has no use for, and what it would call once; "
    "second attention: denoiser calls against the same with a single injected token, in turns, times their number"
)


def plain_graphs(plan: Plan) -> set[str]:
    """Graphs of a plain model of the same base, names as the plan has them: what reads the prompt's tokens first, what
    makes the first segment's keys, the denoisers and the decoder."""
    first = plan.segments[0].context
    kept = {slot for name, slot in first.items() if name.startswith(("key", "value", "context"))}
    found = {segment.graph for segment in plan.segments} | {plan.decoder.graph}
    for conditioner in plan.conditioners:
        for stage in conditioner.stages:
            reads_prompt = conditioner.text is not None and "input_ids" in stage.inputs.values()
            if reads_prompt or kept & set(stage.outputs.values()):
                found.add(stage.graph)
    return found


def adapter_cost(stages: Sequence[Stage], attention: float | None, picture: float) -> Adapter:
    own = sum(stage.seconds.p50 for stage in stages if stage.adapter)
    own += sum(stage.seconds.p50 * (1 - 1 / stage.calls) for stage in stages if _repeated(stage))
    added = own + max(0.0, attention or 0.0)
    return Adapter(own, attention, added / (picture - added), HOW)


def _repeated(stage: Stage) -> bool:
    return stage.calls > 1 and not stage.adapter and stage.kind in ("encode", "project")


def second_attention(called: Iterable[Called], session: Callable[[str], Session]) -> float | None:
    """Seconds that the injected tokens cost in one run; None where no graph takes such, or none takes a single one."""
    found = None
    for one in called:
        if any(name.startswith(INJECTED) for name in one.arrays):
            cut = replace(one, held=_cut(one.held), rest=_cut(one.rest))
            opened = session(one.graph)
            found = (found or 0.0) + one.count * _difference(one.bound(opened), cut.bound(opened))
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
