"""Inputs of the denoisers of bundles of random weights, recorded."""

from pathlib import Path

from x2i.export.graphs.graph_runs import RecordedCalls
from x2i.export.lower.calibration import record_calibration
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.profiling.job import stand_ins
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Settings

STEPS = 6


def recorded(bundle: Path, folder: Path, seed: int, runs: int = 1, **more) -> RecordedCalls:
    """Inputs of the denoiser in a few short runs of a bundle of random weights."""
    opened = open_bundle(bundle)
    case = stand_ins(opened) | {"steps": STEPS, "sampler": "ddim"} | more
    cases = [case | {"guidance": 1 + run} for run in range(runs)]
    opener = lambda name: open_session("cpu", opened.graph_file(name), Settings(1))  # noqa: E731
    return record_calibration(opened, opener, cases, folder, seed, calls_per_run=3)["denoiser"]
