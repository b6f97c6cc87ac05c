"""What a server tells Prometheus of its work."""

from collections.abc import Callable, Iterable
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily

from .jobs.drawer import BundleCounts
from .jobs.drawing import Drawn
from .jobs.job import Job

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""Upper ends of the histograms' buckets."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counters of one server, in a registry of their own, so that a process may hold several servers."""

    def __init__(self, counts: Callable[[], Iterable[BundleCounts]]) -> None:
        self._registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self._registry}
        self.jobs = Counter("x2i_jobs", "Jobs that ended, by bundle and state", ["bundle", "state"], **made)
        self.refusals = Counter("x2i_refusals", "Requests that were refused, by reason", ["reason"], **made)
        self.pictures = Counter("x2i_pictures", "Pictures drawn, by bundle", ["bundle"], **made)
        self.waited = Histogram("x2i_waiting_seconds", "Time in the queue", buckets=SECONDS, **made)
        self.stages = Histogram(
            "x2i_stage_seconds", "Time of a job's stage", ["bundle", "stage"], buckets=SECONDS, **made
        )
        self.steps = Histogram("x2i_step_seconds", "Time of a step", ["bundle"], buckets=SECONDS, **made)
        self._registry.register(_BundleCounters(counts))
        Gauge("x2i_memory_bytes", "Memory of this process", **made).set_function(
            lambda: psutil.Process().memory_info().rss
        )
        self._made = made

    def watch(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Adds the numbers of jobs that wait and that are drawn, which are read when they are asked for."""
        Gauge("x2i_queue_jobs", "Jobs that wait", **self._made).set_function(waiting)
        Gauge("x2i_running_jobs", "Jobs that are drawn", **self._made).set_function(running)

    def drawn(self, job: Job, drawn: Drawn) -> None:
        """Counts what a job gave, and how long its stages and steps took."""
        bundle = job.asked.bundle
        self.pictures.labels(bundle).inc(len(drawn.result.pictures))
        for stage, seconds in drawn.result.seconds.items():
            self.stages.labels(bundle, stage).observe(seconds)
        for seconds in drawn.seconds:
            self.steps.labels(bundle).observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _BundleCounters:
    """What bundles count themselves, where they are drawn with."""

    def __init__(self, counts: Callable[[], Iterable[BundleCounts]]) -> None:
        self._counts = counts

    def collect(self) -> list[CounterMetricFamily]:
        """One family a counter, as Prometheus' client asks for them."""
        encodings = CounterMetricFamily(
            "x2i_encodings", "Calls of encoders, by whether they were answered from memory", labels=["bundle", "kept"]
        )
        calls = CounterMetricFamily(
            "x2i_network_calls", "Calls of the network, by how many jobs shared one", labels=["bundle", "jobs"]
        )
        for counts in self._counts():
            encodings.add_metric([counts.bundle, "yes"], counts.kept)
            encodings.add_metric([counts.bundle, "no"], counts.encoded)
            for jobs, number in sorted(counts.calls.items()):
                calls.add_metric([counts.bundle, str(jobs)], number)
        return [encodings, calls]
