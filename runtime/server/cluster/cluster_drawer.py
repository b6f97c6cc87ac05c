"""Draws a server's jobs on the replicas of a Ray cluster, and those of a replica that died on another.

The queue, the jobs with their ids and results, and all that is answered stay with the server: what the death of a
replica can lose is a drawing, which is begun again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from math import ceil
from threading import Event
from typing import Any

from ...errors import InputError
from ..jobs.drawer import BundleCounts
from ..jobs.drawing import Drawn, StoppedError, Tell
from ..jobs.job import Asked
from ..settings import ServerSettings
from .sent_call import Happened, SentCall
from .settings import ClusterSettings
from .start import Replicas, start_replicas

TRIES = 2
"""Of one job: one that kills whoever draws it must come to an end."""
STOP_SECONDS = 0.1
"""How often a drawing is looked at, whether it is to stop."""
log = logging.getLogger("x2i.server")


class ClusterDrawer:
    """Draws on replicas."""

    def __init__(self, settings: ServerSettings, cluster: ClusterSettings):
        self._settings, self._cluster = settings, cluster
        ongoing = max(settings.lanes, ceil(cluster.ongoing or 0))
        # So many that Ray sees the need of as many replicas as there may be; the others wait here, in fair turns.
        self._places = cluster.most * ongoing
        self._replicas: Replicas | None = None
        self._counts: dict[tuple[str, str], BundleCounts] = {}
        """The latest of each replica and bundle; those of replicas that are no more stay in the sum."""

    async def open(self) -> None:
        """Starts the replicas. Raises InputError where there is no such cluster, or they do not start."""
        # Off the main thread Ray leaves SIGTERM alone, which is to drain the server.
        self._replicas = await asyncio.to_thread(start_replicas, self._settings, self._cluster)

    def has_room(self, asked: Asked, drawn_now: Mapping[str, Collection[Asked]]) -> bool:
        """Whether Ray is to have one more: it keeps those for whom no replica has room yet."""
        return sum(map(len, drawn_now.values())) < self._places

    def most_at_once(self, asked: Asked) -> int:
        """As many as all replicas draw at a time."""
        return self._cluster.most * self._settings.lanes

    async def draw(self, asked: Asked, stop: Event, tell: Tell) -> Drawn:
        """Draws on a replica, and once more on another where it dies. A preview that was shown is not shown again."""
        from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError

        sent, shown = await asyncio.to_thread(SentCall.of, asked), 0

        def tell_news(name: str, data: dict[str, Any]) -> None:
            nonlocal shown
            if name == "preview":
                if data["step"] <= shown:
                    return
                shown = data["step"]
            tell(name, data)

        for left in reversed(range(TRIES)):
            try:
                return await self._draw_once(sent, stop, tell_news)
            except (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError) as error:
                if not left:
                    raise
                log.warning("a replica died while it drew; another draws it again (%s)", type(error).__name__)
        raise AssertionError("the last try returns or raises")

    def counts(self) -> Iterable[BundleCounts]:
        """The sums of all replicas."""
        for bundle in sorted({bundle for _, bundle in self._counts}):
            found = [counts for (_, name), counts in self._counts.items() if name == bundle]
            calls = sum((Counter(each.calls) for each in found), Counter[int]())
            yield BundleCounts(bundle, sum(each.kept for each in found), sum(each.encoded for each in found), calls)

    async def close(self) -> None:
        """Ends the replicas, and the cluster where it is its own."""
        if self._replicas is not None:
            await asyncio.to_thread(self._replicas.stop)

    async def _draw_once(self, sent: SentCall, stop: Event, tell: Tell) -> Drawn:
        assert self._replicas is not None, "nothing is drawn before it is open"
        answers = self._replicas.draw(sent)
        try:
            async for name, data in _until(stop, answers):
                if name == "refused":
                    raise InputError(*data["problems"])
                if name == "drawn":
                    self._counts |= {(data["replica"], counts.bundle): counts for counts in data["counts"]}
                    drawn: Drawn = data["drawn"]
                    return drawn
                if name == "begun":
                    place = sent.call.bundle, data["replica"], data["machine"], data["pid"], data["gpus"] or "none"
                    log.info("a job of %s begins: replica %s on %s, process %s, GPUs %s", *place)
                tell(name, data)
        finally:
            answers.cancel()
        raise AssertionError("a replica ends with drawn or refused")


async def _until(stop: Event, answers: AsyncIterator[Happened]) -> AsyncIterator[Happened]:
    """What a replica tells, until a drawing is to stop: then StoppedError."""
    while True:
        following = asyncio.ensure_future(anext(answers))
        try:
            while not following.done():
                await asyncio.wait([following], timeout=STOP_SECONDS)
                if stop.is_set():
                    raise StoppedError
            yield following.result()
        except StopAsyncIteration:
            return
        finally:
            following.cancel()
