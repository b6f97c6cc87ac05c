"""Calibration data: what reaches a bundle's denoisers when our own runtime draws with it."""

import gc
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.commands.progress import track
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.request import Request
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Arrays, BoundCall, Outputs, Session, SessionWrapper

from ..gate_cases import calibration_runs
from ..graphs.graph_runs import RecordedCalls
from ..judge import Judge
from .calibration_file import read_cases
from .lowered_graph import Calibration
from .lowering import Lowering

CALLS_PER_RUN = 4


def record_calibration(
    bundle: Bundle,
    open_session: Callable[[str], Session],
    cases: Sequence[Mapping[str, Any]],
    folder: Path,
    seed: int = 0,
    calls_per_run: int = CALLS_PER_RUN,
) -> dict[str, RecordedCalls]:
    """Draws every case and keeps the denoisers' inputs of some calls in `folder`; RecordedCalls by the denoiser's name.

    A case holds options of a run, as `Pipeline` takes them. `seed` chooses the calls, and the start noise of cases
    that name no seed. Raises InputError for a case that the bundle refuses.
    """
    plan, random = bundle.manifest.plan, np.random.default_rng(seed)
    denoisers = set(plan.denoisers())
    recorder = _Recorder(folder, lambda calls: _calls(random, calls, calls_per_run), denoisers)
    pipeline = Pipeline(
        bundle, lambda name: recorder.over(name, open_session(name)) if name in denoisers else open_session(name)
    )
    for number, case in enumerate(track(cases, "calibrating", unit="run")):
        run = {"seed": seed + number} | dict(case)
        recorder.begin(number, _calls_by_process(plan, pipeline.check(**run)))
        _draw(pipeline, run, recorder)
        recorder.end()
    # A full-size denoiser's session must be gone before the next one opens.
    del pipeline
    gc.collect()
    return {name: RecordedCalls(tuple(sorted((folder / name).glob("*.npz")))) for name in sorted(denoisers)}


def _draw(pipeline: Pipeline, case: dict[str, Any], recorder: "_Recorder") -> None:
    """Walks a run until all that is wanted of it has been kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step in pipeline.steps(**case):
            recorder.tell(step.count)
            if recorder.has_all:
                return


def _calls_by_process(plan: Plan, request: Request) -> list[int] | None:
    """How often each process calls the network; None where only its walk knows."""
    found = []
    for process in plan.processes:
        sampler = request.sampler if plan.is_level(process) else process.stage_sampler(request.values)
        if sampler is None:
            return None
        found.append((request.calls or 0) if process is plan.main else sampler.calls)
    return found


def _calls(random: np.random.Generator, counts: Sequence[int], wanted: int) -> set[int]:
    """Of each process's calls one of each of `wanted` equal stretches, or all where there are fewer."""
    chosen, begin = set[int](), 0
    for count in counts:
        edges = begin + np.linspace(0, count, min(count, wanted) + 1).astype(int)
        chosen |= {int(random.integers(start, end)) for start, end in pairwise(edges)}
        begin += count
    return chosen


class _Recorder:
    """Counts the calls of a run's denoisers and saves those of each process that `choose(numbers of calls)` names; of a
    denoiser that has none of these, its first."""

    def __init__(self, folder: Path, choose: Callable[[Sequence[int]], set[int]], denoisers: Collection[str]):
        self._folder, self._choose, self._denoisers = folder, choose, frozenset(denoisers)
        self.begin(0, None)

    def begin(self, run: int, calls: Sequence[int] | None) -> None:
        """The next run, whose processes make so many calls; with None they are held until `tell` says how many there
        are."""
        self._run, self._call = run, 0
        self._held: list[tuple[str, int, Arrays]] = []
        self._first: dict[str, tuple[int, Arrays]] = {}
        self._saved = set[str]()
        self._chosen = None if calls is None else self._choose(calls)

    def end(self) -> None:
        """The run is over, or all that is wanted of it is there."""
        for name in self._first.keys() - self._saved:
            self._write(name, *self._first[name])

    def tell(self, steps: int) -> None:
        """How many steps the run has, each of them a call, where it was not known before."""
        if self._chosen is None:
            self._chosen = self._choose([steps])
            for name, call, arrays in self._held:
                self._save(name, call, arrays)
            self._held = []

    @property
    def has_all(self) -> bool:
        seen = self._first.keys() == self._denoisers
        return seen and self._chosen is not None and self._call > max(self._chosen, default=-1)

    def over(self, name: str, session: Session) -> Session:
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        return _RecordedSession(session, partial(self._see, name))

    def _see(self, name: str, arrays: Arrays) -> None:
        self._first.setdefault(name, (self._call, arrays))
        if self._chosen is None:
            self._held.append((name, self._call, arrays))
        else:
            self._save(name, self._call, arrays)
        self._call += 1

    def _save(self, name: str, call: int, arrays: Arrays) -> None:
        assert self._chosen is not None
        if call in self._chosen:
            self._saved.add(name)
            self._write(name, call, arrays)

    def _write(self, name: str, call: int, arrays: Arrays) -> None:
        np.savez(self._folder / name / f"{self._run:05}-{call:05}.npz", **arrays)  # type: ignore[arg-type]


class _RecordedSession(SessionWrapper):
    """A Session that shows every call's inputs before it runs."""

    def __init__(self, session: Session, see: Callable[[Arrays], None]):
        super().__init__(session)
        self._see = see

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        self._see(bound | rest)
        return call(**rest)


def calibrate(source: Bundle, lowering: Lowering, work: Path, judge: Judge | None = None) -> dict[str, Calibration]:
    """Every denoiser's recorded inputs, files below `work`: those that set ranges, and those kept apart.

    Of a user's runs the last is kept apart, or where there is but one, other calls of it. Raises InputError for runs
    that the bundle refuses.
    """
    runs, apart = _runs(source, lowering, judge)

    def recorded(part: Sequence[Mapping[str, Any]], name: str, seed: int) -> dict[str, RecordedCalls]:
        return record_calibration(
            source, lambda graph: open_session("cpu", source.graph_file(graph)), part, work / name, seed
        )

    ranges = recorded(runs, "ranges", lowering.seed)
    held_out = recorded(apart, "held-out", lowering.seed + len(runs))
    return {name: Calibration(ranges[name], held_out[name]) for name in ranges}


def _runs(
    source: Bundle, lowering: Lowering, judge: Judge | None
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    if lowering.calibration is None:
        return calibration_runs(source.manifest, lowering.steps, lowering.size, judge)
    given = read_cases(lowering.calibration, source)
    return given[:-1] or given, given[-1:]
