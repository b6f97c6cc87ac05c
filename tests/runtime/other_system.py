"""`python -P other_system.py ARGUMENTS`: `x2i ARGUMENTS` as a system that is not Linux would have it.

Without the modules and calls that POSIX or Linux alone has, and on a disk that takes upper for lower case and has none
of the names that Windows forbids. What libraries in C open goes past this layer.
"""

import builtins
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

# Every system has its own of it; that of Linux asks for what is hidden here.
import psutil  # noqa: F401

HIDDEN = ("fcntl", "grp", "pwd", "resource", "termios")
LINUX = ("O_DIRECTORY", "O_NOFOLLOW", "fork", "getloadavg", "getuid", "mkfifo", "sched_getaffinity")
TAKE_A_PATH = ("chmod", "listdir", "lstat", "mkdir", "open", "rmdir", "scandir", "stat", "unlink", "utime")
TAKE_TWO = ("link", "rename", "replace")
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|nul|aux|prn|com\d|lpt\d)(\.|$)', re.IGNORECASE)
listed, told = os.listdir, os.lstat


def there(path: Any) -> bool:
    """Whether the disk has this very name."""
    try:
        told(path)
    except OSError:
        return False
    return True


def as_the_disk_has_it(path: Any) -> Any:
    """The name that is there, where one differs by case alone."""
    if not isinstance(path, str | os.PathLike) or there(path):
        return path
    text = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(text))
    if folder == os.path.abspath(text) or isinstance(text, bytes):
        return path
    assert not FORBIDDEN.search(name), f"no name for a file on Windows: {name!r}"
    folder = as_the_disk_has_it(folder)
    try:
        alike = [each for each in listed(folder) if each.casefold() == name.casefold()]
    except OSError:
        alike = []
    return os.path.join(folder, alike[0] if alike else name)


def folded(call: Callable, paths: int) -> Callable:
    """The call, whose first arguments are looked up first."""

    @wraps(call)
    def looked_up(*arguments: Any, **options: Any) -> Any:
        return call(*map(as_the_disk_has_it, arguments[:paths]), *arguments[paths:], **options)

    return looked_up


def become_another_system() -> None:
    """Hides and wraps, in this process, before anything of x2i is imported."""
    for name in HIDDEN:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in LINUX:
        delattr(os, name)
    del signal.SIGHUP
    for names, number in ((TAKE_A_PATH, 1), (TAKE_TWO, 2)):
        for name in names:
            setattr(os, name, folded(getattr(os, name), number))
    builtins.open = io.open = folded(builtins.open, 1)  # type: ignore[assignment]


def hide_proc() -> None:
    """Linux's files about the machine."""
    from x2i.runtime import machine

    machine._CPUINFO = machine._PROC = machine._CGROUPS = Path("/none")


if __name__ == "__main__":
    become_another_system()
    from x2i.runtime.cli import main

    hide_proc()
    main()
