"""Wall-clock seconds per stage of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work: its name, and when it began and ended, in seconds of `time.perf_counter`."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Timings:
    """`with timings("denoise"):` adds the block's time to that stage."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        """Every block, in the order they ended; each denoising step is one."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spans.append(Span(stage, start, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Seconds per stage in the order they ran, and their `total`."""
        stages: dict[str, float] = {}
        for span in self.spans:
            stages[span.name] = stages.get(span.name, 0.0) + span.seconds
        return stages | {"total": sum(stages.values())}
