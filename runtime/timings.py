"""Wall-clock seconds per stage of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """`with timings("denoise"):` adds the block's time to that stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Seconds per stage in the order they ran, and their `total`."""
        return self._seconds | {"total": sum(self._seconds.values())}
