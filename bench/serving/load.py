"""Clients that send one request after another, and what they saw."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

Work = Callable[[int], bool]
"""(the number of a request) -> whether it was answered as it should be."""


@dataclass(frozen=True, slots=True)
class Load:
    """`seconds` of each request that was answered as it should be, and of all together (`wall`); how many `failed`."""

    clients: int
    seconds: Sequence[float]
    wall: float
    failed: int

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the requests was answered: the nearest of those seen."""
        return sorted(self.seconds)[max(0, math.ceil(share * len(self.seconds)) - 1)]

    def row(self, name: str) -> str:
        """A line of the table."""
        latencies = " | ".join(f"{self.percentile(share):.2f}" for share in (0.5, 0.95, 0.99))
        return f"| {name} | {self.clients} | {self.per_second:.2f} | {latencies} | {self.failed} |"


HEAD = "| | clients | pictures a second | p50, s | p95, s | p99, s | failed |\n|---|---|---|---|---|---|---|"


def put_under_load(clients: int, requests: int, work: Work) -> Load:
    """So many clients at once, each with the next request as soon as it has its answer."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda number: _timed(work, number), range(requests)))
    wall = time.perf_counter() - began
    right = [seconds for fits, seconds in found if fits]
    assert right, "not one request was answered"
    return Load(clients, right, wall, len(found) - len(right))


def _timed(work: Work, number: int) -> tuple[bool, float]:
    began = time.perf_counter()
    return work(number), time.perf_counter() - began
