"""Files that a command writes: refused before the work where they could not be written, and written whole, all or
none."""

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, os_problem, reason
from .staging import staging_folder

_UMASK_LOCK = threading.Lock()
Write = Callable[[BinaryIO], object]


def target_of(path: Path) -> Path:
    """Where a file is written that a caller names: a link's own target, as other programs have it."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_targets(targets: Iterable[Path], inputs: Iterable[Path] = (), bundles: Iterable[Path] = ()) -> None:
    """Raises InputError with a line for every file that could not be written, before any work is done: where something
    else stands or nothing can be made, over a file that is read, inside a bundle, or twice."""
    problems: list[str] = []
    inputs, bundles, seen = [*inputs], [*bundles], set[object]()
    for path in targets:
        try:
            problems += _target_problems(path, inputs, bundles)
            if (identity := _identity(path)) in seen:
                problems.append(f"{path}: expected a file of its own for each output, got the same twice; rename one")
            seen.add(identity)
        except OSError as error:
            problems.append(os_problem(OSError(error.errno, error.strerror, str(path))))
        except ValueError as error:
            problems.append(f"{path}: expected a file name, got {reason(error)}; rename it")
    if problems:
        raise InputError(*dict.fromkeys(problems))


def _target_problems(path: Path, inputs: list[Path], bundles: list[Path]) -> Iterator[str]:
    target = target_of(path)
    if target.is_dir():
        yield f"{path}: expected a file name, got a folder"
        return
    if target.exists() and not target.is_file():
        yield f"{path}: expected a file name, got a device or a pipe; name a file"
        return
    folder = target.absolute().parent
    if not folder.is_dir():
        yield f"{path}: the folder {target.parent} does not exist; create it first"
        return
    yield from (
        f"{path}: expected another file than those that are read, got {one}; choose another name"
        for one in inputs
        if _identity(target) == _identity(one)
    )
    yield from (
        f"{path}: expected a place outside the bundle {bundle}; choose another folder"
        for bundle in bundles
        if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(bundle))
    )
    with suppress(FileNotFoundError):
        # Its name may be too long.
        os.stat(target)
    try:
        with staging_folder(folder, "trial"):
            pass
    except OSError as error:
        yield f"{path}: could not be written: {reason(error)}; choose another folder"


def _identity(path: Path) -> object:
    """What two names have in common that lead to one file, by links or by letters that the disk does not tell apart."""
    try:
        found = os.stat(path)
    except OSError:
        whole = os.path.realpath(path)
        return whole.casefold() if _folds_case(Path(whole).parent) else whole
    return found.st_dev, found.st_ino


def _folds_case(folder: Path) -> bool:
    """Whether a disk takes upper for lower case, as those of Windows and macOS do; told by a folder that is there."""
    for place in (folder, *folder.parents):
        other = place.with_name(place.name.swapcase())
        if place.is_dir() and other != place:
            return other.is_dir() and other.samefile(place)
    return os.path.normcase("A") == "a"


def save_whole(path: Path, write: Write) -> None:
    """`save_all` for one file."""
    save_all({path: write})


def save_all(writes: Mapping[Path, Write]) -> None:
    """Calls each `write(stream)` on a temporary file beside its path and renames them once all are whole: where one
    cannot be written, every path is as it was. Raises InputError."""
    with ExitStack() as stack:
        made: list[tuple[Path, Path]] = []
        for path, write in writes.items():
            with _named_failure(path):
                target = target_of(path)
                folder = stack.enter_context(staging_folder(target.absolute().parent, target.stem))
                with (folder / "new").open("wb") as stream:
                    write(stream)
                made.append((folder, target))
        _publish(made)


def _publish(made: list[tuple[Path, Path]]) -> None:
    done: list[tuple[Path, Path]] = []
    try:
        for folder, target in made:
            with _named_failure(target):
                if target.exists():
                    os.replace(target, folder / "old")
                done.append((folder, target))
                os.replace(folder / "new", target)
    except BaseException:
        for folder, target in done:
            if (folder / "old").exists():
                os.replace(folder / "old", target)
            else:
                target.unlink(missing_ok=True)
        raise


@contextmanager
def _named_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "choose a shorter name" if error.errno == errno.ENAMETOOLONG else "free space or choose another place"
        raise InputError(f"{path}: could not be written: {reason(error)}; {fix}") from error


def apply_umask(path: Path) -> None:
    """Gives a file or folder that was made for its owner alone the mode that a plain one gets: 0o666 or 0o777 less the
    process's umask."""
    with _UMASK_LOCK:
        # There is no call that reads the umask alone.
        umask = os.umask(0o077)
        os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
