"""What the checkpoint readers raise when a file is not what they were promised."""

from collections.abc import Callable
from typing import Any


class CheckpointError(ValueError):
    """One or more problems of a checkpoint, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


def read_all(*reads: Callable[[], Any]) -> tuple[Any, ...]:
    """What each read returns, in their order. Raises one CheckpointError with the problems of all that raised one."""
    results: list[Any] = []
    problems: list[str] = []
    for read in reads:
        try:
            results.append(read())
        except CheckpointError as error:
            problems += error.problems
    if problems:
        raise CheckpointError(*problems)
    return tuple(results)
