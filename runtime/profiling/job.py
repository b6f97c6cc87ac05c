"""What to measure: a bundle, how it is opened, a call's options, and what stands in for those that nobody gave."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..bundle.plan import Plan
from ..bundle.reader import Bundle, open_bundle
from ..gate.cases import case_options
from ..inputs.registry import input_stand_ins
from ..inputs.text.marker import MarkerInput
from ..pipeline import Pipeline
from ..sessions.backends import graph_opener
from ..sessions.session import Session, Settings
from ..text_bundle import TextBundle
from .recorder import RecordedSession, Recorder


def completed_options(bundle: Bundle, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options of a run, and a line for each that stands in for one the bundle needs and nobody gave.

    What the caller gives comes first, then the inputs of the gate's first run, then what the inputs have for a
    stand-in. A marker is the bundle's own where the caller gives the prompt.
    """
    options = {name: value for name, value in given.items() if not _is_empty(value)}
    gate = bundle.manifest.gate
    stored = {} if gate is None or not gate.cases else case_options(gate.cases[0], bundle.folder)
    lines = []
    wanted = stand_ins(bundle)
    if "prompt" in options:
        # The caller's prompt is marked as the caller marks it, and is mixed with the caller's sound.
        wanted = {name: value for name, value in wanted.items() if name not in ("marker", "sound")}
    for name, value in wanted.items():
        if name in options or (name == "mask" and "subject" in options):
            continue
        own = name in stored
        options[name] = stored[name] if own else value
        text = f" {options[name]!r}" if isinstance(options[name], str) else ""
        lines.append(f"{name}: {'of the gate, ' if own else 'a stand-in, '}since none was given{text}")
    return _matched(bundle.manifest.plan, options, given), tuple(lines)


def stand_ins(bundle: Bundle) -> dict[str, Any]:
    """Something to draw for each input of the bundle's plan: a prompt in one of its languages, a picture, a sound."""
    found, languages = input_stand_ins(bundle.manifest.plan.inputs()), bundle.manifest.languages
    if languages:
        # The stand-in's own, where the bundle has it.
        found["language"] = "English" if "English" in languages else languages[0]
    return found


def _matched(plan: Plan, options: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """As many subjects as the prompt has markers, where they stand in."""
    marker = plan.find(MarkerInput)
    if marker is not None and _is_empty(given.get("subjects")):
        marks = max(1, options["prompt"].count(marker.marker_of(options)))
        options["subjects"] = (list(options["subjects"]) * marks)[:marks]
    return options


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and not value)


Item = TypeVar("Item")


class Track(Protocol):
    """Gives the items on, and shows how many of them are done."""

    def __call__(self, items: Iterable[Item], label: str, /) -> Iterable[Item]: ...


def untracked(items: Iterable[Item], label: str) -> Iterable[Item]:
    """The items, with nothing shown."""
    return items


@dataclass(frozen=True, slots=True)
class ProfileJob:
    """`options` are those of a Pipeline's call, with paths instead of pictures and sounds; `cold` is how many fresh
    processes are started, `warm_up` how many runs go before the `runs` that are measured."""

    bundle: Path
    backend: str | None = None
    threads: int | None = None
    attention: str | None = None
    text_bundle: Path | None = None
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    cold: int = 3
    warm_up: int = 1
    runs: int = 5
    operators: bool = True

    @property
    def settings(self) -> Settings:
        """How its graphs are opened."""
        return Settings(self.threads, self.attention)


def pipelines(bundle: Bundle, job: ProfileJob, backend: str, recorder: Recorder) -> tuple[Pipeline, Pipeline]:
    """A Pipeline whose graphs tell the recorder of their calls, and one with the same sessions that tell nobody."""
    side = None
    if job.text_bundle is not None:
        text = open_bundle(job.text_bundle)
        side = TextBundle(text, recorder.opener(graph_opener(backend, text, job.settings)))
    open_graph = recorder.opener(graph_opener(backend, bundle, job.settings))
    watched = Pipeline(bundle, open_graph, side, backend, preset=job.preset, threads=job.threads)
    plain = Pipeline(bundle, plain_pipeline(watched), side, backend, preset=job.preset, threads=job.threads)
    return watched, plain


def plain_pipeline(watched: Pipeline) -> Callable[[str], Session]:
    """The sessions themselves, which the recorder does not see."""

    def session(graph: str) -> Session:
        found = watched.session(graph)
        assert isinstance(found, RecordedSession), graph
        return found.wrapped

    return session
