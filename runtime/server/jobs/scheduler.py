"""Which job is drawn when: as many at once as share their steps, the others in turn; with cancelling, limits of time,
and results that are kept for a while.

Everything here runs on the event loop's thread; where jobs are drawn, a Drawer knows.
"""

import asyncio
import logging
import math
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from time import time
from typing import Any

from ...errors import InputError
from ..metrics import ServerMetrics
from ..refusals import NO_RETRY, ApiError, refused
from ..settings import ServerLimits
from ..tracing import trace_job
from .drawer import Drawer
from .drawing import Drawn, StoppedError
from .job import Asked, Job, JobEvent
from .pace import Pace
from .queue import FairQueue

LONGEST_RETRY = 120
"""Seconds: OpenAI's client waits no longer, whatever it is told."""
MOST_KEPT = 1000
"""Jobs that have ended."""
FETCH_SECONDS = 2.0
"""What ends while the server stops can still be fetched for so long."""
DRAIN_TICK = 0.05
log = logging.getLogger("x2i.server")


class Scheduler:
    """The jobs of a server, which `drawer` draws."""

    def __init__(self, drawer: Drawer, limits: ServerLimits, metrics: ServerMetrics):
        self.stopping: float | None = None
        """When it began to take no more jobs."""
        self._opened = False
        self._drawer, self._limits, self._metrics = drawer, limits, metrics
        self._waiting, self._pace = FairQueue(), Pace()
        self._running: dict[str, list[Job]] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._kept: OrderedDict[str, int] = OrderedDict()
        """Bytes of the results of jobs that have ended."""
        self._drawings: set[asyncio.Future[Drawn]] = set()
        """The loop itself holds none of them."""
        metrics.watch(lambda: self.waiting, lambda: len(self.running))

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def running(self) -> list[Job]:
        """Those that are being drawn."""
        return [job for jobs in self._running.values() for job in jobs]

    def submit(self, asked: Asked, client: str) -> Job:
        """A new job in the queue. Raises ApiError where that is full (429), or the server stops (503)."""
        if self.stopping is not None:
            self._metrics.refusals.labels("stopping").inc()
            raise _stopping()
        if len(self._waiting) >= self._limits.waiting:
            self._metrics.refusals.labels("queue_full").inc()
            seconds = str(self.retry_after())
            message = f"expected at most {self._limits.waiting} waiting jobs, got one more; try again in {seconds} s"
            raise ApiError(429, message, None, "queue_full", {"Retry-After": seconds})
        job = Job(asked, client)
        self._jobs[job.id] = job
        self._waiting.add(job)
        job.timer = asyncio.get_running_loop().call_later(self._limits.seconds, self._out_of_time, job)
        self._dispatch()
        return job

    def find(self, job_id: str) -> Job:
        """A job by its id. Raises ApiError (404) for one that is none, or not kept any more."""
        if job_id not in self._jobs:
            message = "job: expected the id of a job that runs or ended lately, got another; ask anew"
            raise ApiError(404, message, "job", "not_found")
        return self._jobs[job_id]

    def cancel(self, job: Job) -> None:
        """Ends a job: at once where it waits, within one step where it is drawn. One that has ended stays as it is."""
        if job.state == "queued":
            self._waiting.remove(job)
            self._end(job, "cancelled" if job.error is None else "failed", error=job.error)
            self._dispatch()
            self._tell_waiting()
        elif job.state == "running":
            job.stop.set()

    def forget(self, job_id: str) -> None:
        """Drops a job that has ended, and its results."""
        if (job := self._jobs.pop(job_id, None)) is not None and job.timer is not None:
            job.timer.cancel()
        self._kept.pop(job_id, None)

    def retry_after(self) -> int:
        """Whole seconds after which a place in the queue may be free."""
        soonest = min((left for job in self.running if (left := self._pace.left(job)) is not None), default=1.0)
        return max(1, min(LONGEST_RETRY, math.ceil(soonest)))

    def seconds_left(self, job: Job) -> float | None:
        """How long a job will take from now on, as far as can be told: of one that waits, with those before it."""
        if job.state != "queued":
            return self._pace.left(job)
        ahead = [*self.running, *self._ahead(job), job]
        times = [self._pace.left(each) for each in ahead]
        if any(left is None for left in times):
            return None
        return sum(left for left in times if left is not None) / max(1, self._drawer.most_at_once(job.asked))

    def position(self, job: Job) -> int | None:
        """How many jobs are before one that waits."""
        return sum(1 for _ in self._ahead(job)) if job.state == "queued" else None

    def start(self) -> None:
        """Begins to draw; until then jobs wait."""
        self._opened = True
        self._dispatch()

    def stop(self) -> None:
        """Takes no more jobs, and lets those that are there end: see `stopped`."""
        if self.stopping is None:
            self.stopping = time()

    def stopped(self, seconds: float) -> bool:
        """Whether everything has ended since `stop`, and whoever waits for it had a moment to fetch it. What still
        takes after so many seconds ends now."""
        assert self.stopping is not None, "stopped without a word"
        left = [job for job in self._jobs.values() if not job.ended.is_set()]
        if time() - self.stopping >= seconds:
            for job in left:
                job.error = job.error or _stopping()
                self.cancel(job)
        unread = [job.ended_at for job in self._jobs.values() if (job.ended_at or 0.0) > self.stopping]
        return not left and all(time() - (ended or 0.0) > FETCH_SECONDS for ended in unread)

    async def drain(self, seconds: float) -> None:
        """Stops, and waits until everything has ended."""
        self.stop()
        while not all(job.ended.is_set() for job in self._jobs.values()):
            self.stopped(seconds)
            await asyncio.sleep(DRAIN_TICK)

    def _ahead(self, job: Job) -> Iterator[Job]:
        for each in self._waiting:
            if each is job:
                return
            yield each

    def _dispatch(self) -> None:
        """Begins the next job as long as there is room. What does not fit beside those that are drawn waits, and nobody
        passes it: else small jobs might keep a large one waiting for good."""
        begun = False
        while (
            self._opened
            and (job := self._waiting.first()) is not None
            and self._drawer.has_room(job.asked, self._drawn_now())
        ):
            self._waiting.take()
            self._begin(job)
            begun = True
        if begun:
            self._tell_waiting()

    def _drawn_now(self) -> dict[str, list[Asked]]:
        return {bundle: [job.asked for job in jobs] for bundle, jobs in self._running.items()}

    def _begin(self, job: Job) -> None:
        job.begin()
        self._running.setdefault(job.asked.bundle, []).append(job)
        self._metrics.waited.observe(time() - job.created)
        self._tell(job)
        loop = asyncio.get_running_loop()

        def tell(name: str, data: dict[str, Any]) -> None:
            if name == "step" and not job.watched:
                # The event loop is not woken for nobody: it would take a core from the network that has them all.
                job.step, job.steps = data["step"], data["steps"]
            else:
                loop.call_soon_threadsafe(self._happened, job, name, data)

        future = asyncio.ensure_future(self._drawer.draw(job.asked, job.stop, tell))
        self._drawings.add(future)
        future.add_done_callback(partial(self._drawn, job))

    def _happened(self, job: Job, name: str, data: dict[str, Any]) -> None:
        if name == "begun":
            # A machine took it only now, or another one begins it anew.
            job.begun, job.step = time(), 0
            return
        job.step, job.steps = data["step"], data["steps"]
        if name == "step":
            data = data | {"seconds_left": self.seconds_left(job)}
        else:
            job.preview = data
        job.publish(JobEvent(name, data))

    def _drawn(self, job: Job, future: "asyncio.Future[Drawn]") -> None:
        self._drawings.discard(future)
        lane = self._running[job.asked.bundle]
        lane.remove(job)
        if not lane:
            del self._running[job.asked.bundle]
        error = future.exception()
        if error is None:
            drawn = future.result()
            self._pace.note(job)
            self._metrics.drawn(job, drawn)
            self._end(job, "done", drawn.result)
        elif isinstance(error, StoppedError):
            self._end(job, "failed" if job.error is not None else "cancelled", error=job.error)
        elif isinstance(error, InputError):
            self._end(job, "failed", error=refused(error))
        else:
            log.error("job %s failed", job.id, exc_info=error)
            self._end(job, "failed", error=ApiError(500, "the server failed to draw this; see its log", None, "failed"))
        self._dispatch()

    def _out_of_time(self, job: Job) -> None:
        if job.ended.is_set():
            return
        limit = f"expected a job that ends within {self._limits.seconds:g} s, got one that has not"
        job.error = ApiError(504, f"{limit}; ask for fewer steps or a smaller size", None, "timeout", NO_RETRY)
        if job.state == "running":
            job.stop.set()
        else:
            self.cancel(job)

    def _end(self, job: Job, state: Any, result: Any = None, error: ApiError | None = None) -> None:
        job.end(state, result, error)
        trace_job(job)
        if job.timer is not None:
            job.timer.cancel()
        job.timer = asyncio.get_running_loop().call_later(self._limits.keep_seconds, self.forget, job.id)
        self._metrics.jobs.labels(job.asked.bundle, state).inc()
        if job.asked.folder is not None:
            shutil.rmtree(job.asked.folder, ignore_errors=True)
        self._tell(job)
        self._kept[job.id] = 0 if job.result is None else job.result.bytes
        while len(self._kept) > MOST_KEPT or (
            len(self._kept) > 1 and sum(self._kept.values()) > self._limits.keep_bytes
        ):
            self.forget(next(iter(self._kept)))

    def _tell_waiting(self) -> None:
        for job in self._waiting:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        """Those who watch a job see it in its new state, or its new place."""
        job.publish(JobEvent("job", {}))


def _stopping() -> ApiError:
    return ApiError(503, "the server is stopping; send it again", None, "stopping", {"Retry-After": "5"})
