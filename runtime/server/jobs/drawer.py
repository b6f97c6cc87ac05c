"""Where jobs are drawn: on threads of this process, or wherever another Drawer knows to."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from ..models.batch_sizes import COUNTS
from ..models.bundles import ServedBundles
from .drawing import Drawn, Tell, draw_call
from .job import Asked


@dataclass(frozen=True, slots=True)
class BundleCounts:
    """What a bundle counted since it is served: calls of encoders that were answered from memory (`kept`) or made
    (`encoded`), and calls of the network by how many jobs shared one."""

    bundle: str
    kept: int = 0
    encoded: int = 0
    calls: Mapping[int, int] = field(default_factory=dict)


def bundle_counts(bundles: ServedBundles) -> Iterator[BundleCounts]:
    """What the bundles of this process counted."""
    for served in bundles:
        yield BundleCounts(served.name, served.encodings.found, served.encodings.made, dict(served.shared.calls))


class Drawer(Protocol):
    """What draws a server's jobs. All of it is called on the event loop's thread."""

    async def open(self) -> None:
        """Makes ready; before that nothing is drawn."""

    def has_room(self, asked: Asked, drawn_now: Mapping[str, Collection[Asked]]) -> bool:
        """Whether a job may begin beside those that are drawn, which are given by their bundles."""

    def most_at_once(self, asked: Asked) -> int:
        """About how many such jobs are drawn at a time."""

    def draw(self, asked: Asked, stop: Event, tell: Tell) -> Awaitable[Drawn]:
        """Draws a job; `tell` may be called from any thread, with the events begun, step and preview. `stop` ends it by
        StoppedError; what the job is at fault for, InputError says."""

    def counts(self) -> Iterable[BundleCounts]:
        """Of all bundles, for the metrics."""

    async def close(self) -> None:
        """Lets go of everything, once no job is drawn any more."""


class ThreadDrawer:
    """Draws on threads of this process, with `lanes` bundles at a time. Jobs of one bundle are drawn at once as far as
    their pictures share a step."""

    def __init__(self, bundles: ServedBundles, lanes: int = 1):
        self._bundles, self._lanes = bundles, lanes
        self._pool = ThreadPoolExecutor(lanes * COUNTS[-1], "draw")

    async def open(self) -> None:
        """Opens the first bundles, away from the event loop."""
        await asyncio.to_thread(self._bundles.open_first)

    def has_room(self, asked: Asked, drawn_now: Mapping[str, Collection[Asked]]) -> bool:
        """Beside jobs of its bundle, where their pictures share a step; else in a lane of its own."""
        lane = drawn_now.get(asked.bundle)
        if not lane:
            return len(drawn_now) < self._lanes
        return sum(each.request.count for each in lane) + asked.request.count <= self.most_at_once(asked)

    def most_at_once(self, asked: Asked) -> int:
        """How many pictures of its size share a step."""
        return self._bundles[asked.bundle].most_at_once(asked.request.size)

    def draw(self, asked: Asked, stop: Event, tell: Tell) -> Awaitable[Drawn]:
        """On a thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, draw_call, self._bundles, asked, stop, tell)

    def counts(self) -> Iterable[BundleCounts]:
        """What the bundles counted."""
        return bundle_counts(self._bundles)

    async def close(self) -> None:
        """Closes the bundles."""
        await asyncio.to_thread(self._pool.shutdown)
        for served in self._bundles:
            served.close()
