"""How long jobs take: learnt from those that were drawn, told of those that wait."""

from time import time

from .job import Job

NEW = 0.3
"""Share of the latest job in what is expected of the next."""


class Pace:
    """Seconds that a bundle takes for a step of a picture of so many pixels, by bundle."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, job: Job) -> None:
        """Learns from a job that was drawn."""
        if job.begun is None or not job.steps:
            return
        latest = (time() - job.begun) / self._work(job, job.steps)
        known = self._seconds.get(job.asked.bundle, latest)
        self._seconds[job.asked.bundle] = known + NEW * (latest - known)

    def left(self, job: Job) -> float | None:
        """Seconds that a job still takes, once it is drawn; None where nothing is known yet."""
        if job.ended.is_set():
            return 0.0
        if job.begun is not None and job.step and job.steps:
            return (time() - job.begun) / job.step * (job.steps - job.step)
        seconds = self._seconds.get(job.asked.bundle)
        return None if seconds is None else seconds * self._work(job, job.steps or job.asked.steps)

    def _work(self, job: Job, steps: int) -> float:
        height, width = job.asked.request.size
        return max(1, steps) * job.asked.request.count * height * width
