"""Asks every contestant in turns, keeps the answers, and prints the tables."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from x2i.runtime.errors import InputError
from x2i.runtime.machine import processor

from harness.answers import Answer, AnswerStore, ask_peer, peer_job
from harness.cases import Case
from harness.closeness import measure_closeness
from harness.contestants import Contestant
from harness.environments import Environments, SetupError
from harness.folders import Folders
from harness.row import Row, summarise
from harness.table import fastest_line, picture_time, ratio_table, speed_table, step_time


@dataclass(frozen=True, slots=True)
class Bench:
    """Measurements of `contestants`, whose answers are kept in `answers` and pictures below `out`."""

    out: Path
    contestants: tuple[Contestant, ...]
    folders: Folders
    environments: Environments
    answers: AnswerStore
    say: Callable[[str], None]

    def measure(self, case: Case, only: Callable[[Contestant], bool], pictures: bool, again: bool = False) -> None:
        """Measures everybody's first turn, then everybody's second, so that what else the machine does meets all alike.

        `only` chooses contestants. With `pictures`, whole ones are drawn as well; with `again`, what is known, too.
        """
        for number in range(case.rounds):
            for contestant in filter(only, self.contestants):
                name = _named(case, contestant, number)
                known = self.answers.answers.get(name, {})
                if again or (pictures and "steps" in known and "picture" not in known):
                    self.answers.forget(name)
                answer = self.answers.answer(name, partial(self._turn, contestant, case, pictures))
                self.say(f"{name}: {json.dumps({key: answer[key] for key in answer if key != 'versions'})}")

    def _turn(self, contestant: Contestant, case: Case, whole: bool) -> Answer:
        if reason := contestant.cannot.get(case.model):
            return {"failed": reason}
        try:
            python = self.environments.python(contestant.environment)
            model = self.folders(case.model, contestant.folder, contestant.preset)
        except (SetupError, InputError) as error:
            return {"failed": str(error)}
        return ask_peer(contestant, python, peer_job(contestant, case, model, self._place(case, contestant), whole))

    def report(self, case: Case) -> Iterator[str]:
        """The lines of the case's tables, in Markdown; its rows go into a JSON file."""
        rows = [self._row(contestant, case) for contestant in self.contestants]
        rows = [found for found in rows if found.failed != "not measured"]
        summary = json.dumps([asdict(found) for found in rows], indent=1)
        (self.out / f"{case.name}.json").write_text(summary + "\n", encoding="utf-8")
        yield f"## {case.model}, {case.height} x {case.width}, guidance on"
        yield ""
        yield from speed_table(rows, case.picture_steps)
        for what, figure in (("step", step_time), (f"picture of {case.picture_steps} steps", picture_time)):
            if compared := list(ratio_table(rows, figure)):
                yield from ("", f"A {what}:", "", *compared)
            yield from ("", *fastest_line(rows, what, figure))
        yield ""
        yield f"{processor()}. {self._versions(case)}"
        if others := [cores for found in rows for cores in found.others]:
            yield f"Other programs kept {min(others):.2f} to {max(others):.2f} cores busy in the second before a turn."

    def _row(self, contestant: Contestant, case: Case) -> Row:
        names = [_named(case, contestant, number) for number in range(case.rounds)]
        turns = [self.answers.answers[name] for name in names if name in self.answers.answers]
        reference = next(other for other in self.contestants if other.name == contestant.reference)
        close = measure_closeness(self._place(case, contestant), self._place(case, reference))
        return summarise(contestant, turns, close)

    def _place(self, case: Case, contestant: Contestant) -> Path:
        plain = "".join(letter if letter.isalnum() else "-" for letter in contestant.name.lower())
        return self.out / "drawn" / case.label / plain

    def _versions(self, case: Case) -> str:
        found: dict[str, str] = {}
        for name, answer in self.answers.answers.items():
            if name.startswith(f"{case.label}: "):
                found |= {f"{package} {number}": "" for package, number in answer.get("versions", {}).items() if number}
        return ", ".join(sorted(found)) + "."


def _named(case: Case, contestant: Contestant, number: int) -> str:
    return f"{case.label}: {contestant.name}: turn {number + 1}"


def with_rounds(case: Case, rounds: int | None, steps: int | None) -> Case:
    """The case with as many turns and timed steps as asked for; raises ValueError for steps that make the timed run as
    long as a whole picture's, from which peers tell the two apart."""
    if steps is not None and case.warm + steps == case.picture_steps:
        raise ValueError(f"--steps: expected any number but {steps}, which is a whole picture with {case.warm} before")
    return replace(case, rounds=rounds or case.rounds, steps=steps or case.steps)
