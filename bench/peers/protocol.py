"""What a peer is asked and what it answers: one JSON object each way. Imported in every environment: numpy alone."""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class PeerJob:
    """One measurement that a peer is asked for.

    `noise` is a .npy file, float32 [1, 4, h, w]; `seed` gives the same numbers through torch's generator on a CPU.
    `steps` are timed, after `warm` ones that are not; then comes a whole picture of `picture_steps`, none where that is
    0. `height` and `width` are in pixels. `out` is the folder for what was drawn.
    """

    model: str
    noise: str
    seed: int
    prompt: str
    guidance: float
    height: int
    width: int
    sampler: str
    warm: int
    steps: int
    picture_steps: int
    threads: int
    out: str
    options: dict[str, Any] = field(default_factory=dict)

    def start_noise(self) -> np.ndarray:
        """The start noise, float32 [1, 4, h, w], before any scaling of the sampler's."""
        return np.load(self.noise, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class PeerPicture:
    """What one run gave: a picture uint8 [H, W, 3], and the latents before decoding where the stack shows them."""

    image: np.ndarray
    latents: np.ndarray | None = None


Draw = Callable[[int, Callable[[], None]], PeerPicture]
"""Draws one picture in the given number of steps, and calls back after each."""


def answer(open_peer: Callable[[PeerJob], Draw], packages: Iterable[str]) -> None:
    """A peer's whole program: reads the job that the command line names, measures, prints the answer as the last line.

    `open_peer` loads the model; `packages` are those whose versions belong to the answer.
    """
    job = PeerJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    facts = measure(open_peer, job)
    facts |= {"peak_bytes": _peak_bytes(), "versions": {name: _version(name) for name in packages}}
    sys.stdout.flush()
    print(json.dumps(facts), flush=True)


def measure(open_peer: Callable[[PeerJob], Draw], job: PeerJob) -> dict[str, Any]:
    """Seconds of loading, of the first step, of every timed one, of the first picture and of a whole one, and what was
    drawn is saved.

    Raises AssertionError where the peer reports another number of steps than it was asked for.
    """
    began = time.perf_counter()
    draw = open_peer(job)
    loaded = time.perf_counter()
    ticks: list[float] = []
    drawn = draw(job.warm + job.steps, lambda: ticks.append(time.perf_counter()))
    assert len(ticks) == job.warm + job.steps, f"{len(ticks)} steps reported, {job.warm + job.steps} asked for"
    timed = ticks[job.warm - 1 :]
    steps = [after - before for before, after in itertools.pairwise(timed)]
    facts = {"load": loaded - began, "first": ticks[0] - loaded, "steps": steps, "step": statistics.median(steps)}
    facts["first_picture"] = time.perf_counter() - loaded
    _save(drawn, Path(job.out), "short")
    if job.picture_steps:
        began = time.perf_counter()
        drawn = draw(job.picture_steps, lambda: None)
        facts["picture"] = time.perf_counter() - began
        _save(drawn, Path(job.out), "picture")
    return facts


def _save(drawn: PeerPicture, folder: Path, name: str) -> None:
    assert drawn.image.dtype == np.uint8 and drawn.image.ndim == 3, (drawn.image.dtype, drawn.image.shape)
    np.save(folder / f"{name}-image.npy", drawn.image)
    if drawn.latents is not None:
        np.save(folder / f"{name}-latents.npy", drawn.latents.astype(np.float32))


def _peak_bytes() -> int:
    """Largest resident size of this program, mapped files included, and not of what started it.

    As `x2i.runtime.machine.peak_memory`, which a peer's environment does not have: this module needs numpy alone.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
