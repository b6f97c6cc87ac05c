"""How many pictures share a step fastest: measured on this machine, and kept with the bundle beside its engines."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated

from msgspec import Meta

from ...bundle.reader import ENGINES, Bundle
from ...bundle.records import Amount, decode, encode
from ...errors import InputError
from ...files.reading import read_json_file
from ...files.writing import save_whole
from ...machine import processor
from ...pipeline import Pipeline
from ...profiling.job import completed_options

COUNTS = (1, 2, 4, 8, 16)
"""Pictures that are tried in one step."""
GAIN = 1.05
"""Less is not worth a picture's waiting for another's steps."""
NEARLY = 0.97
"""Of counts that draw almost as many pictures a second, the smallest is taken: its pictures come sooner."""
WORSE = 0.8
"""Where so much is lost, more pictures are not tried."""
MEASURED_STEPS = 12
"""Steps of a run that is measured."""
Count = Annotated[int, Meta(ge=1, le=1024)]


@dataclass(frozen=True, slots=True)
class BatchSize:
    """`steps_per_second` holds, for each number of pictures in a step, how many pictures' steps a second makes, at a
    `size` (height, width) in pixels; `most` is the number that is worth it, 1 where sharing gains nothing."""

    size: tuple[int, int]
    steps_per_second: dict[str, Amount]
    most: Count

    @property
    def gain(self) -> float:
        """How many times as many pictures `most` of them at once make as one at a time."""
        return self.steps_per_second[str(self.most)] / self.steps_per_second["1"]

    def describe(self) -> str:
        """What was found, in words."""
        rates = ", ".join(f"{count}: {rate:.3g}" for count, rate in self.steps_per_second.items())
        shared = f"{self.most} pictures share a step, {self.gain:.2f} times as fast"
        sharing = shared if self.most > 1 else "pictures are drawn one by one"
        return f"{self.size[0]}x{self.size[1]}, {sharing} (steps of a picture a second, by pictures in a step: {rates})"


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """What was measured of one bundle, on a `machine` as `machine.processor` tells it, by a backend on so many
    `threads` (None: all cores)."""

    machine: str
    backend: str
    threads: int | None
    measured: tuple[BatchSize, ...]

    def most(self, size: tuple[int, int]) -> int:
        """How many pictures of a size share a step: as many as were measured for that size, or for the next larger one;
        1 beyond all that was measured."""
        fitting = [each for each in self.measured if prod(each.size) >= prod(size)]
        return min(fitting, key=lambda each: prod(each.size)).most if fitting else 1

    def fits(self, backend: str, threads: int | None) -> bool:
        """Whether it was measured for this machine, as it is used now."""
        return (self.machine, self.backend, self.threads) == (processor(), backend, threads)


def measure_batch_sizes(pipeline: Pipeline, threads: int | None, sizes: Iterable[tuple[int, int]] = ()) -> BatchSizes:
    """Measures a bundle at its usual size, and at others. Raises InputError where it cannot draw one of them alone."""
    canvas = pipeline.bundle.manifest.plan.process.canvas
    measured = tuple(_measured(pipeline, size) for size in dict.fromkeys((canvas.size, *sizes)))
    return BatchSizes(processor(), pipeline.backend, threads, measured)


def _measured(pipeline: Pipeline, size: tuple[int, int]) -> BatchSize:
    """Doubles the pictures until more of them lose much."""
    found: dict[int, float] = {}
    for count in COUNTS:
        try:
            found[count] = _rate(pipeline, size, count)
        except InputError:
            # More than the engine, or the memory, takes at once.
            if not found:
                raise
            break
        if found[count] < WORSE * max(found.values()):
            break
    best = max(found.values())
    most = min(count for count, rate in found.items() if rate >= NEARLY * best)
    rates = {str(count): round(rate, 4) for count, rate in found.items()}
    return BatchSize(size, rates, most if best >= GAIN * found[1] else 1)


def _rate(pipeline: Pipeline, size: tuple[int, int], count: int) -> float:
    """Steps of pictures that a second makes, by the fastest of some steps: what else runs on the machine only adds."""
    given = {} if pipeline.bundle.manifest.plan.process.canvas.fixed else {"size": size}
    options, _ = completed_options(pipeline.bundle, {"count": count, **given})
    prompt = options.pop("prompt", None)
    walk = pipeline.steps(prompt, **options)
    for taken, _ in enumerate(walk):
        if taken + 1 == MEASURED_STEPS:
            break
    walk.close()
    steps = [span.seconds for span in walk.timings.spans if span.name == "denoise"]
    return count / min(steps)


def keep_batch_sizes(bundle: Bundle, sizes: BatchSizes) -> None:
    """Writes what was measured beside the bundle's engines. Raises OSError or InputError where that cannot be."""
    file = bundle.folder / ENGINES / f"batch-{sizes.backend.replace(':', '-')}.json"
    file.parent.mkdir(exist_ok=True)
    text = json.dumps(encode(sizes), indent=1, allow_nan=False) + "\n"
    save_whole(file, lambda stream: stream.write(text.encode()))


def kept_batch_sizes(bundle: Bundle, backend: str, threads: int | None) -> BatchSizes | None:
    """What was measured of a bundle on this machine, None where nothing was. Raises InputError for a damaged file."""
    file = bundle.folder / ENGINES / f"batch-{backend.replace(':', '-')}.json"
    if not file.is_file():
        return None
    found = decode(BatchSizes, read_json_file(file, str(file), "the batch sizes of a bundle"), file.name)
    return found if found.fits(backend, threads) else None
