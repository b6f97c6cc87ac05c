"""Measured seconds, and what is said of them."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from msgspec import Meta

from ..bundle.records import Amount, Bytes, Count, Finite, Index, Side, decode, encode
from ..errors import InputError
from ..files.reading import read_json_file
from ..files.writing import save_whole

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Rate = Annotated[float, Meta(ge=1, le=1e30)]
LEAST = 1e-9
"""Seconds: nothing that was measured takes less."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds, one for each time that something was measured."""

    all: Annotated[tuple[Seconds, ...], Meta(min_length=1)]

    def percentile(self, percent: float) -> float:
        """Linear between the two nearest, as numpy takes it."""
        return float(np.percentile(self.all, percent))

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the times do not exceed."""
        return self.percentile(95)


REVISION = 1
Kind = Literal["encode", "project", "denoise", "decode", "other"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran: the processor's name, cores that may be used, the instruction sets that matter, memory in bytes,
    system, versions of packages, and the cores that were busy with other work when the measuring began."""

    processor: str
    cores: Count
    features: tuple[str, ...]
    memory: Bytes | None
    system: str
    versions: dict[str, str]
    load: Amount | None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The run that was measured. `stand_ins` are the options that nobody gave and the bundle needs, in words;
    `attention` is told for OpenVINO's CPU, which has two."""

    steps: Count
    sampler: str
    guidance: Finite
    size: tuple[Side, Side]
    count: Count
    threads: Count | None
    preset: str | None
    warm_up: Index
    runs: Count
    stand_ins: tuple[str, ...]
    attention: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """A piece of the way from a process' start to its first picture, in seconds from the start."""

    name: str
    start: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory of a process at a moment: bytes resident, and those among them that lie in mapped files."""

    at: Seconds
    resident: Bytes
    files: Bytes


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Fresh processes: seconds from start to first picture of each, the phases of the one in the middle, its memory
    over time, and the most that any of them had resident."""

    seconds: Samples
    phases: Annotated[tuple[Phase, ...], Meta(min_length=1)]
    memory: tuple[MemorySample, ...]
    peak: Bytes


@dataclass(frozen=True, slots=True)
class StageTime:
    """One graph in a run, and the seconds that all its calls of a run took, run by run.

    `macs` are multiplications with their additions in one run (None: not counted), `weights` the bytes of its files,
    `moved` those that its calls read and write at least: weights, inputs, outputs. `adapter` where the plain model
    has no such call.
    """

    name: str
    kind: Kind
    calls: Index
    seconds: Samples
    precision: str
    macs: Bytes | None
    weights: Bytes
    moved: Bytes
    adapter: bool


@dataclass(frozen=True, slots=True)
class Operator:
    """One kind of operator of a graph: seconds and calls in one run, as the backend's own profiler tells them."""

    graph: str
    type: str
    calls: Index
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Operators:
    """`note` says why there are none. `overhead` is what the backend's profiler added to the calls, as a share."""

    found: tuple[Operator, ...]
    overhead: Finite | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterCost:
    """Seconds of one run that the plain model would not take: in stages of its own, and in the second attention of the
    denoiser (None: it has none, or it could not be measured), and both as a share of what the plain model takes (None:
    no time is left for that)."""

    stages: Finite
    attention: Finite | None
    share: Finite | None
    how: str


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine reaches at most: operations a second of a large product by type, bytes a second of a copy."""

    products: dict[str, Rate]
    copy: Rate
    how: str


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the recorder adds to a run, as shares of it: `paired` is the median over recorded runs, each against one
    that was not, from `least` to `most`; `counted` is the recorder's own seconds a call, times the calls."""

    paired: Finite
    least: Finite
    most: Finite
    counted: Finite


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of one measured run, in seconds from its beginning; `track` is "stages" or "graphs"."""

    track: str
    name: str
    start: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class Profile:
    """A bundle on a backend on a machine. `picture`, `stages` and `steps` are seconds over the measured runs."""

    bundle: str
    system: str
    precision: tuple[str, ...]
    backend: str
    notes: tuple[str, ...]
    machine: Machine
    asked: RunSettings
    cold: ColdStart
    load: dict[str, Seconds]
    picture: Samples
    phases: dict[str, Samples]
    stages: tuple[StageTime, ...]
    steps: Annotated[tuple[Samples, ...], Meta(min_length=1)]
    operators: Operators
    adapter: AdapterCost
    rates: Rates
    overhead: Overhead
    events: tuple[Event, ...]
    revision: int

    @property
    def title(self) -> str:
        """The bundle and the backend, in words."""
        return f"{self.bundle} on {self.backend}"

    @property
    def all_steps(self) -> Samples:
        """Every step of every run."""
        return Samples(tuple(second for step in self.steps for second in step.all))


def read(path: Path) -> Profile:
    """A profile that was saved; raises InputError for what is none, or newer."""
    data = read_json_file(path, str(path), "a profile in JSON, as x2i profile BUNDLE --json makes it,")
    revision = data.get("revision") if isinstance(data, dict) else None
    if revision != REVISION:
        raise InputError(
            f"{path}: expected a profile of revision {REVISION}, got {revision!r}; measure again with this x2i"
        )
    profile = decode(Profile, data, path.name)
    if problems := _problems(profile):
        raise InputError(*(f"{path.name}: {problem}" for problem in problems))
    return profile


def _problems(profile: Profile) -> list[str]:
    """What is said as a share of something has something to be a share of."""
    problems = []
    for name, seconds in (
        ("picture", profile.picture.p50),
        ("the last phase of cold", profile.cold.phases[-1].end),
        ("the steps among the events", loop_seconds(profile)[1]),
    ):
        if seconds < LEAST:
            problems.append(f"{name}: expected {LEAST} seconds at least, got {seconds}; measure again")
    if "fp32" not in profile.rates.products:
        problems.append(f"rates.products: expected fp32 among them, got {', '.join(profile.rates.products) or 'none'}")
    return problems


def save(path: Path, profile: Profile) -> None:
    """Writes a profile as JSON, whole or not at all; raises OSError where it cannot."""
    save_text(path, json.dumps(encode(profile), indent=1, allow_nan=False))


def save_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    save_whole(path, partial(_write, text))


def _write(text: str, stream: BinaryIO) -> Any:
    return stream.write(text.encode())


def loop_seconds(profile: Profile) -> tuple[float, float]:
    """Seconds of the middle run's steps in which no graph was called, and of the steps altogether."""
    steps = [event for event in profile.events if event.track == "stages" and event.name.startswith("step ")]
    graphs = [event for event in profile.events if event.track == "graphs"]
    inside = [call for call in graphs if any(step.start <= call.start and call.end <= step.end for step in steps)]
    whole = sum(step.end - step.start for step in steps)
    return whole - sum(call.end - call.start for call in inside), whole
