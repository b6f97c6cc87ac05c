"""Judges of what a bundle draws: what the gate and the tuner ask of one, and how an installed judge is found."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.gate.cases import Draw
from x2i.runtime.gate.record import Judged

from .errors import PlanError

GROUP = "x2i.judges"
INSTALL = {"emoji": "the emoji judge comes with the repository: pip install -e ./emoji in a clone"}
"""How a judge is installed that is no part of this distribution, by its name."""
Scorer = Callable[[Draw], Judged]
"""Draws every run of a judge and scores the drawings beside the reference's."""


class Judge(Protocol):
    """Knows what certain runs of a bundle should show, so that it can count how many drawings do.

    A distribution registers a judge in the entry-point group `x2i.judges`, as a callable that takes no arguments and
    returns one; the entry point's name is what `--judge` takes.
    """

    def runs(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Options of the runs whose answers the judge knows, two or more, as a Pipeline takes them, each with a `seed`.

        Raises PlanError, one line, for a bundle of which the judge knows nothing.
        """
        ...

    def against(self, manifest: Manifest, reference: Draw) -> Scorer:
        """Draws every run with `reference` at once, and returns what scores other drawings beside these.

        Raises PlanError as `runs` does.
        """
        ...


def find_judge(name: str) -> Judge:
    """The installed judge of this name; raises PlanError, one line, where there is none or a package of it is missing.

    Of two installed judges of one name, the first found is taken.
    """
    installed: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        installed.setdefault(entry.name, entry)
    if name not in installed:
        known = f"one of {', '.join(sorted(installed))}" if installed else "none is"
        fix = INSTALL.get(name, "choose another, or leave it out")
        raise PlanError(f"--judge {name}: expected an installed judge ({known}), got {name!r}; {fix}")
    try:
        return installed[name].load()()
    except ModuleNotFoundError as missing:
        raise PlanError(f"--judge {name}: needs {missing.name}, which is not installed; install it first") from missing


def judge_problems(name: str | None) -> list[str]:
    """One line where a judge is named that cannot be loaded."""
    try:
        if name is not None:
            find_judge(name)
    except PlanError as error:
        return list(error.problems)
    return []
