"""What every backend here makes of one small graph, and where: `x2i doctor` runs it, for lists of providers prove
nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import InputError
from ..sessions.backends import BACKENDS, open_session
from ..sessions.providers.registered import plugin_names
from ..sessions.providers.trial_graph import GATES, trial_error, trial_graph, trial_inputs

ENGINES_ALONE = ("tensorrt", "rtx")


@dataclass(frozen=True, slots=True)
class BackendTrial:
    """What is said of a backend; `wrong` says that it computed, and something else than the reference."""

    said: str
    wrong: bool = False


def backend_trials(usable: Iterable[str]) -> Iterator[tuple[str, BackendTrial]]:
    """Every backend that is `usable` here, and every plug-in of ONNX Runtime that is installed, with its trial."""
    plugins = [f"ep:{name}" for name in plugin_names() if name not in BACKENDS]
    for name in (*usable, *plugins):
        if name in ENGINES_ALONE:
            yield (
                name,
                BackendTrial(f"nothing: it runs engines alone; x2i build BUNDLE --for {name}, then x2i verify BUNDLE"),
            )
        else:
            yield name, _trial(name)


def _trial(backend: str) -> BackendTrial:
    try:
        where, error = _run(backend, "fp32")
    except InputError as refused:
        return BackendTrial(f"not the small graph: {refused.problems[0]}")
    said = f"a small graph{where}, error {error:.1e}"
    if not error <= GATES["fp32"]:
        return BackendTrial(
            f"{said}, where {GATES['fp32']:.0e} is allowed; choose another backend, or another driver", True
        )
    try:
        _, half = _run(backend, "fp16")
    except InputError:
        return BackendTrial(f"{said}; no float16")
    return BackendTrial(f"{said}; in float16 {half:.1e}")


def _run(backend: str, precision: str) -> tuple[str, float]:
    """Where the graph's nodes were, for a backend that tells, and the error."""
    session = open_session(backend, trial_graph(precision))
    placed = getattr(session, "placement", None)
    return "" if placed is None else f" {placed}", trial_error(session(**trial_inputs()))
