"""What to measure: a bundle, how it is opened, and a call's options, as they travel to another process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundle import Bundle, open_bundle
from ..pipeline import Pipeline
from ..sessions.backends import open_session
from ..sessions.session import Session
from ..text_side import TextSide
from .recorder import RecordedSession, Recorder


@dataclass(frozen=True, slots=True)
class Job:
    """`options` are those of a Pipeline's call, with paths instead of pictures and sounds; `cold` is how many fresh
    processes are started, `warm_up` how many runs go before the `runs` that are measured."""

    bundle: Path
    backend: str | None = None
    threads: int | None = None
    text_bundle: Path | None = None
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    cold: int = 3
    warm_up: int = 1
    runs: int = 5
    operators: bool = True


def opener(bundle: Bundle, backend: str, threads: int | None) -> Callable[[str], Session]:
    return lambda name: open_session(backend, bundle.graph_file(name), threads)


def pipelines(bundle: Bundle, job: Job, backend: str, recorder: Recorder) -> tuple[Pipeline, Pipeline]:
    """A Pipeline whose graphs tell the recorder of their calls, and one with the same sessions that tell nobody."""
    side = None
    if job.text_bundle is not None:
        text = open_bundle(job.text_bundle)
        side = TextSide(text, recorder.opener(opener(text, backend, job.threads)))
    open_graph = recorder.opener(opener(bundle, backend, job.threads))
    watched = Pipeline(bundle, open_graph, side, backend, preset=job.preset)
    return watched, Pipeline(bundle, plain(watched), side, backend, preset=job.preset)


def plain(watched: Pipeline) -> Callable[[str], Session]:
    """The sessions themselves, which the recorder does not see."""

    def session(graph: str) -> Session:
        found = watched.session(graph)
        assert isinstance(found, RecordedSession), graph
        return found.plain

    return session
