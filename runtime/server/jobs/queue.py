"""The queue: bounded, and fair between clients, who take turns however many jobs each of them sends."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from .job import Job


class FairQueue:
    """Jobs that wait. The client whose turn it is comes first with its oldest job, then the next client."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def __iter__(self) -> Iterator[Job]:
        """In the order in which they will be taken, if no other comes."""
        rows = [list(jobs) for jobs in self._clients.values()]
        for turn in range(max(map(len, rows), default=0)):
            yield from (jobs[turn] for jobs in rows if turn < len(jobs))

    def add(self, job: Job) -> None:
        """Behind its client's other jobs; a new client's turn is the last."""
        self._clients.setdefault(job.client, deque()).append(job)

    def first(self) -> Job | None:
        """The job that is next, which stays."""
        return next(iter(self._clients.values()))[0] if self._clients else None

    def take(self) -> Job:
        """The job that is next; the turn passes to the next client."""
        client, jobs = next(iter(self._clients.items()))
        job = jobs.popleft()
        self._clients.move_to_end(client)
        if not jobs:
            del self._clients[client]
        return job

    def remove(self, job: Job) -> None:
        """Takes out a job that waits."""
        jobs = self._clients[job.client]
        jobs.remove(job)
        if not jobs:
            del self._clients[job.client]
