"""Draws the runs that int8 is calibrated on, and keeps what reaches the denoisers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from x2i.runtime.bundle import Bundle
from x2i.runtime.sessions.backends import open_session

from .lowered_graph import Calibration
from .lowering import Lowering
from .precision.calibration import record
from .precision.calibration_file import read_cases
from .precision.samples import Samples
from .trial_runs import calibration_runs


def calibrate(source: Bundle, lowering: Lowering, work: Path) -> dict[str, Calibration]:
    """Every denoiser's recorded inputs, files below `work`: those that set ranges, and those kept apart.

    Of a user's runs the last is kept apart, or where there is but one, other calls of it. Raises InputError for runs
    that the bundle refuses.
    """
    runs, apart = _runs(source, lowering)

    def recorded(part: Sequence[Mapping[str, Any]], name: str, seed: int) -> dict[str, Samples]:
        return record(source, lambda graph: open_session("cpu", source.graph_file(graph)), part, work / name, seed)

    ranges = recorded(runs, "ranges", lowering.seed)
    held_out = recorded(apart, "held-out", lowering.seed + len(runs))
    return {name: Calibration(ranges[name], held_out[name]) for name in ranges}


def _runs(source: Bundle, lowering: Lowering) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    if lowering.calibration is None:
        return calibration_runs(source.manifest, lowering)
    given = read_cases(lowering.calibration, source)
    return given[:-1] or given, given[-1:]
