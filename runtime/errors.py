"""What the runtime raises when its caller, a file or the machine is at fault, and how any error is told in one line."""

import errno
import re
from collections.abc import Callable
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")

LINE_LENGTH = 900
"""Characters of one problem, beyond which its middle is left out."""
VALUE_LENGTH = 200
"""Characters of a text that stands inside a line, such as a prompt's rest."""
PANICS = "pyo3_runtime"
"""The module of what Rust's libraries raise when they give up, which is no Exception."""
_ROOM = re.compile(r"allocat\w* (?:.*?(?:size )?)?(\d[\d.]* ?\w*)")


def one_line(text: str, most: int = LINE_LENGTH) -> str:
    """A text as it may be shown: what a terminal does not print as a character is escaped, the middle is left out where
    it is longer than `most`."""
    text = _shortened(text, most)
    if text.isprintable():
        return text
    escaped = (one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
    return _shortened("".join(escaped), most)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most // 4
    gap = f" [... {len(text) - most} more ...] "
    return text[: most - tail - len(gap)] + gap + text[len(text) - tail :]


class ProblemsError(ValueError):
    """One or more problems, each a line as `one_line` makes it."""

    def __init__(self, *problems: str):
        self.problems = tuple(map(one_line, problems))
        super().__init__("\n".join(self.problems))


class InputError(ProblemsError):
    """One or more problems at the boundary, each a line: what was expected, what came, and the fix."""


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
    if isinstance(error, MemoryError) or re.search(r"bad_alloc|[Uu]nable to allocate|[Ff]ailed to allocate", text):
        found = _ROOM.search(text)
        return "too little memory" + (f" for {found[1]}" if found else "")
    return one_line((text.strip().splitlines() or [type(error).__name__])[0])


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, or of a user's share of it, that can take no more."""
LINK_LOOP = "Symlink loop"
"""How pathlib of Python 3.11 and 3.12 begins what it says of links in a circle, for which it raises no OSError."""
_FIXES = dict.fromkeys(DISK_FULL, "free space, or choose another disk") | {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "check the links of the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "close files, or raise the limit (ulimit -n)",
    errno.ENOMEM: "close other programs",
    errno.ESTALE: "mount the disk again",
    errno.EIO: "check the disk",
}


def os_problem(error: OSError) -> str:
    """What the system refused, of which file, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    fix = _FIXES.get(error.errno or 0, "check the file and its disk")
    return one_line(f"{where}expected what the system can do, got: {reason(error)}; {fix}")


TOLD_BY_CHILDREN = (OSError, MemoryError, RuntimeError, ValueError, ArithmeticError)
"""What a child process tells its parent in lines; whatever else ends it, its last words tell."""


def problems_of(error: BaseException) -> tuple[str, ...]:
    """One line or more for any error: the problems of ours, and for a library's its cause and a fix as far as they are
    known."""
    problems = getattr(error, "problems", None)
    if isinstance(problems, tuple):
        return tuple(map(one_line, problems))
    if reason(error).startswith("too little memory"):
        return (f"expected enough memory, got {reason(error)}; try a smaller size or count, or close other programs",)
    if isinstance(error, OSError):
        return (os_problem(error),)
    if isinstance(error, RuntimeError) and str(error).startswith(LINK_LOOP):
        return (f"expected a path, got one whose links lead in a circle ({reason(error)}); check the links",)
    if isinstance(error, RecursionError):
        return (f"expected values nested a few levels deep, got too many levels ({reason(error)}); flatten them",)
    if isinstance(error, OverflowError):
        return (f"expected numbers that fit a machine's, got a larger one ({reason(error)}); give a smaller one",)
    if isinstance(error, UnicodeError):
        return (f"expected text in Unicode, got other bytes ({reason(error)}); check names, texts and their encoding",)
    return (f"unforeseen {type(error).__name__}: {reason(error)}; please report it with what X2I_TRACEBACK=1 adds",)
