"""Draws with every bundle in a folder on a provider and on the CPU, and says how far apart they are: `make webgpu`.

`python tests/webgpu/compare.py FOLDER [BACKEND]`, in an environment whose onnxruntime has the provider; no torch. Exit
code 1 where a run differs by more than LIMIT, or cannot be drawn.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.load import pipeline_of
from x2i.runtime.output import Output
from x2i.runtime.profiling.job import completed_options
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.providers.trial_graph import trial_error, trial_graph, trial_inputs
from x2i.runtime.sessions.session import Session

LIMIT = 1e-3
"""The largest difference of the last state, of its spread on the CPU: float32 in another order."""
STEPS = 1


@dataclass
class Compared:
    """One bundle: graphs that were called, their nodes left to the CPU, the largest difference of the last state (for
    tokens: the share that differs), and seconds."""

    graphs: int
    counting: int
    error: float
    seconds: float


def compared(folder: Path, backend: str) -> Compared:
    """Draws one bundle twice. Raises InputError where the provider cannot."""
    bundle = open_bundle(folder)
    options = _options(bundle)
    opened: dict[str, Any] = {}

    def kept(name: str, session: Session) -> Session:
        opened[name] = session
        return session

    wanted = _state(pipeline_of(bundle, "cpu")(**options))
    start = time.perf_counter()
    there = _state(pipeline_of(bundle, backend, wrap=kept)(**options))
    seconds = time.perf_counter() - start
    counting = sum(len(session.placement.counting) for session in opened.values())
    if wanted.dtype.kind in "iu":
        return Compared(len(opened), counting, float((wanted != there).mean()), seconds)
    spread = float(wanted.std()) or 1.0
    return Compared(len(opened), counting, float(np.abs(wanted - there).max()) / spread, seconds)


def _options(bundle: Any) -> dict[str, Any]:
    options, _ = completed_options(bundle, {"seed": 5})
    return options | ({"steps": STEPS} if "steps" in bundle.manifest.plan.options() else {})


def _state(output: Output) -> np.ndarray:
    state = output.latents if output.tokens is None else output.tokens
    assert state is not None, "a run that gave no state"
    return state


def main(folder: Path, backend: str = "webgpu") -> int:
    """One line for each bundle; the exit code."""
    for precision in ("fp32", "fp16"):
        try:
            error = trial_error(open_session(backend, trial_graph(precision))(**trial_inputs()))
            print(f"{backend}: one small graph in {precision}, error {error:.1e}")
        except InputError as refused:
            print(f"{backend}: one small graph in {precision}: {refused}")
    print(f"{'bundle':15} graphs  on the CPU     error  seconds")
    failed = 0
    for path in sorted(path.parent for path in folder.glob("*/manifest.json")):
        try:
            found = compared(path, backend)
        except InputError as refused:
            print(f"{path.name:15} {refused}", flush=True)
            failed += 1
            continue
        passed = found.error <= LIMIT
        failed += not passed
        line = f"{path.name:15} {found.graphs:6}  {found.counting:10}  {found.error:8.1e}  {found.seconds:7.1f}"
        print(line + ("" if passed else f"  past {LIMIT:.0e}"), flush=True)
    print(f"on the CPU: nodes that count, all graphs together; error: of the last state's spread, limit {LIMIT:.0e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
