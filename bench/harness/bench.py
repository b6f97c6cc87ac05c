"""Asks every contestant in turns, keeps the answers, and prints the tables."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from x2i.runtime.errors import InputError
from x2i.runtime.machine import processor

from harness.cases import Case
from harness.closeness import closeness
from harness.contestants import Contestant
from harness.environments import Environments, SetupError
from harness.folders import Folders
from harness.kept import Facts, Kept
from harness.row import Row, row
from harness.table import fastest, picture, ratios, step, table
from harness.turn import job, taken


@dataclass(frozen=True, slots=True)
class Bench:
    """Measurements of `contestants`, kept below `out`."""

    out: Path
    contestants: tuple[Contestant, ...]
    folders: Folders
    environments: Environments
    kept: Kept
    say: Callable[[str], None]

    def measure(self, case: Case, only: Callable[[Contestant], bool], pictures: bool, again: bool = False) -> None:
        """Everybody's first turn, then everybody's second, so that what else the machine does meets all alike.

        `pictures`: also whole ones. `again`: also what is known.
        """
        for number in range(case.rounds):
            for contestant in filter(only, self.contestants):
                name = _named(case, contestant, number)
                known = self.kept.facts.get(name, {})
                if again or (pictures and "steps" in known and "picture" not in known):
                    self.kept.forget(name)
                facts = self.kept(name, partial(self._turn, contestant, case, pictures))
                self.say(f"{name}: {json.dumps({key: facts[key] for key in facts if key != 'versions'})}")

    def _turn(self, contestant: Contestant, case: Case, whole: bool) -> Facts:
        if reason := contestant.cannot.get(case.model):
            return {"failed": reason}
        try:
            python = self.environments.python(contestant.environment)
            model = self.folders(case.model, contestant.folder, contestant.preset)
        except (SetupError, InputError) as error:
            return {"failed": str(error)}
        return taken(contestant, python, job(contestant, case, model, self._place(case, contestant), whole))

    def report(self, case: Case) -> Iterator[str]:
        """The case's tables, and its rows in a JSON file."""
        rows = [self._row(contestant, case) for contestant in self.contestants]
        rows = [found for found in rows if found.failed != "not measured"]
        summary = json.dumps([asdict(found) for found in rows], indent=1)
        (self.out / f"{case.name}.json").write_text(summary + "\n", encoding="utf-8")
        yield f"## {case.model}, {case.height} x {case.width}, guidance on"
        yield ""
        yield from table(rows, case.picture_steps)
        for what, figure in (("step", step), (f"picture of {case.picture_steps} steps", picture)):
            if compared := list(ratios(rows, figure)):
                yield from ("", f"A {what}:", "", *compared)
            yield from ("", *fastest(rows, what, figure))
        yield ""
        yield f"{processor()}. {self._versions(case)}"
        if others := [cores for found in rows for cores in found.others]:
            yield f"Other programs kept {min(others):.2f} to {max(others):.2f} cores busy in the second before a turn."

    def _row(self, contestant: Contestant, case: Case) -> Row:
        names = [_named(case, contestant, number) for number in range(case.rounds)]
        turns = [self.kept.facts[name] for name in names if name in self.kept.facts]
        reference = next(other for other in self.contestants if other.name == contestant.reference)
        close = closeness(self._place(case, contestant), self._place(case, reference))
        return row(contestant, turns, close)

    def _place(self, case: Case, contestant: Contestant) -> Path:
        plain = "".join(letter if letter.isalnum() else "-" for letter in contestant.name.lower())
        return self.out / "drawn" / case.label / plain

    def _versions(self, case: Case) -> str:
        found: dict[str, str] = {}
        for name, facts in self.kept.facts.items():
            if name.startswith(f"{case.label}: "):
                found |= {f"{package} {number}": "" for package, number in facts.get("versions", {}).items() if number}
        return ", ".join(sorted(found)) + "."


def _named(case: Case, contestant: Contestant, number: int) -> str:
    return f"{case.label}: {contestant.name}: turn {number + 1}"


def with_rounds(case: Case, rounds: int | None, steps: int | None) -> Case:
    """The case with as many turns and timed steps as asked for; raises ValueError for steps that make the timed run as
    long as a whole picture's, from which peers tell the two apart."""
    if steps is not None and case.warm + steps == case.picture_steps:
        raise ValueError(f"--steps: expected any number but {steps}, which is a whole picture with {case.warm} before")
    return replace(case, rounds=rounds or case.rounds, steps=steps or case.steps)
