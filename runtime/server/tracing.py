"""Traces by OpenTelemetry: a span for each job, below that of the request that sent it, with its wait and its stages.

Where nobody has configured OpenTelemetry's SDK (`opentelemetry-instrument x2i serve ...` does), its interface records
nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import Any

from opentelemetry import context, propagate, trace
from starlette.datastructures import Headers
from starlette.types import Scope

from .jobs.job import Job

tracer = trace.get_tracer("x2i.server")


@contextmanager
def request_trace(scope: Scope) -> Iterator[None]:
    """Around a request: what it sends is part of the trace that its headers name."""
    headers = Headers(scope=scope)
    token = context.attach(propagate.extract(headers)) if "traceparent" in headers else None
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)


def trace_job(job: Job) -> None:
    """Records a job that has ended: no prompt, and no file's name."""
    ended, begun = job.ended_at or time(), job.begun
    attributes: dict[str, Any] = {
        "x2i.bundle": job.asked.bundle,
        "x2i.state": job.state,
        "x2i.pictures": job.asked.request.count,
    }
    span = tracer.start_span("x2i.job", job.trace, attributes=attributes, start_time=_nanoseconds(job.created))
    if job.error is not None:
        span.set_status(trace.Status(trace.StatusCode.ERROR, job.error.code))
    inside = trace.set_span_in_context(span, job.trace)
    _record("x2i.waiting", inside, job.created, begun or ended)
    at = begun or ended
    for stage, seconds in {} if job.result is None else job.result.seconds.items():
        if stage != "total":
            _record(f"x2i.{stage}", inside, at, at + seconds)
            at += seconds
    span.end(_nanoseconds(ended))


def _record(name: str, inside: context.Context, start: float, end: float) -> None:
    tracer.start_span(name, inside, start_time=_nanoseconds(start)).end(_nanoseconds(end))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
