"""What the runtime raises when its caller, a file or the machine is at fault."""

from collections.abc import Callable
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


class InputError(ValueError):
    """One or more problems at the boundary, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


class UnknownOptionError(InputError, TypeError):
    """A call with keywords that are no options of a run: a TypeError as for any function, with all other problems."""


class EngineWarning(UserWarning):
    """An engine, or another saving, that cannot be used: drawing takes longer than it might, and the line says why."""


def collect_problems(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Both results, or one InputError with the problems of both."""
    try:
        made = first()
    except InputError as error:
        try:
            second()
        except InputError as another:
            # What both were given, both may refuse.
            raise InputError(*dict.fromkeys((*error.problems, *another.problems))) from error
        raise
    return made, second()


def reason(error: BaseException) -> str:
    """What an error says, on one line; its class where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]
