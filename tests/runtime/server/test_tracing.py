"""A job is a span of its request's trace, with its wait and its stages, and without its prompt."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from x2i.runtime.server import tracing

from tests.runtime.server.running import Running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_a_job_and_its_stages(server: Running, spans: InMemorySpanExporter) -> None:
    options = {"language": "French", "steps": 2}
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = server.post("/x2i/v1/jobs", {"prompt": "rot", "options": options}, **sent)
    server.ended(server.service.scheduler.find(answer.json["id"]))
    found = {span.name: span for span in spans.get_finished_spans()}
    assert list(found) == ["x2i.waiting", "x2i.encode", "x2i.denoise", "x2i.decode", "x2i.job"]
    job = found["x2i.job"]
    assert trace.format_trace_id(job.context.trace_id) == TRACE
    assert job.parent is not None and trace.format_span_id(job.parent.span_id) == PARENT
    assert job.attributes is not None and job.attributes["x2i.state"] == "done" and "rot" not in str(job.to_json())
    stages = [found[f"x2i.{name}"] for name in ("waiting", "encode", "denoise", "decode")]
    assert all(stage.parent is not None and stage.parent.span_id == job.context.span_id for stage in stages)
    times = [(stage.start_time or 0, stage.end_time or 0) for stage in stages]
    assert all(start <= end for start, end in times) and times == sorted(times)
    assert (job.start_time or 0) <= times[0][0] and times[-1][1] <= (job.end_time or 0) + 10**7


def test_a_cancelled_job(server: Running, spans: InMemorySpanExporter) -> None:
    job = server.submit("rot", language="French", steps=500)
    server.post(f"/x2i/v1/jobs/{job.id}/cancel", {})
    server.ended(job)
    assert [span.name for span in spans.get_finished_spans()] == ["x2i.waiting", "x2i.job"]
