"""What the checkpoint readers raise when a file is not what they were promised."""

from collections.abc import Callable, Sequence
from typing import Any


class CheckpointError(ValueError):
    """One or more problems of a checkpoint, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


def refuse(problems: Sequence[str]) -> None:
    """Raises one CheckpointError with all problems, if there are any."""
    if problems:
        raise CheckpointError(*problems)


def read_all(*reads: Callable[[], Any]) -> tuple[Any, ...]:
    """What each read returns, in their order. Raises one CheckpointError with the problems of all that raised one."""
    results: list[Any] = []
    problems: list[str] = []
    for read in reads:
        try:
            results.append(read())
        except CheckpointError as error:
            problems += error.problems
    refuse(problems)
    return tuple(results)
