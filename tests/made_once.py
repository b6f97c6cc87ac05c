"""What is slow to make and only read: made once, kept between runs under a digest of what made it.

The cache is `build/test-cache` in the repository: git ignores it, `make clean` removes it with the clone's other
products, and no test leaves anything in the user's own folders. An entry is a folder `NAME-DIGEST`; it counts once its
`complete.json` is there, which is written last. Two test processes that want the same entry wait for each other.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "test-cache"
SOURCES = ("models", "kernels", "export", "runtime", "emoji")
"""The rooms whose code and weights a bundle is made of."""
LIBRARIES = (
    "torch",
    "transformers",
    "diffusers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "numpy",
    "tokenizers",
)
NEWEST = 2
"""How many entries of one name are kept. All names together fill about 0.5 GB, so the cache stays below 1 GB or so."""
HANDED_OUT: dict[Path, dict[str, list[int]]] = {}
"""Entries that this process reads, each with the size and time of change of its files when they were made."""


def made_once(name: str, make: Callable[[Path], object], reads: Iterable[Path] = ()) -> Path:
    """The file or folder that `make(path)` leaves at the path it is given.

    It is made again when anything changes of: the rooms' code and weights, the helper modules of the tests, the file
    that holds `make`, the files and folders in `reads`, the libraries' versions, Python's.
    """
    digest = hashlib.sha256("\n".join([base_digest(), digest_of(Path(make.__code__.co_filename))]).encode())
    for path in reads:
        digest.update(digest_of(path).encode())
    entry = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{name}.lock"):
        if not (entry / "complete.json").exists():
            shutil.rmtree(entry, ignore_errors=True)
            entry.mkdir()
            make(entry / name)
            (entry / "complete.json").write_text(json.dumps(files_of(entry / name)), encoding="utf-8")
            prune(name)
        (entry / "complete.json").touch()
    HANDED_OUT[entry] = json.loads((entry / "complete.json").read_text(encoding="utf-8"))
    return entry / name


def changed_entries() -> list[str]:
    """Names of the entries that no longer are what was made; they are made again the next time."""
    changed = [entry for entry, files in HANDED_OUT.items() if files_of(next_to(entry)) != files]
    for entry in changed:
        (entry / "complete.json").unlink(missing_ok=True)
        del HANDED_OUT[entry]
    return [entry.name for entry in changed]


def next_to(entry: Path) -> Path:
    """What was made, in the folder of its entry."""
    return entry / entry.name.rpartition("-")[0]


def files_of(path: Path) -> dict[str, list[int]]:
    """Size in bytes and time of change in nanoseconds of every file of a folder, or of one file."""
    found = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".pyc":
            status = file.stat()
            found[file.relative_to(path).as_posix()] = [status.st_size, status.st_mtime_ns]
    return found


def prune(name: str) -> None:
    """Removes all entries of a name but those used last, and what was left half made."""
    entries = [path for path in CACHE.glob(f"{name}-*") if path.name.rpartition("-")[0] == name]
    used = {path: (path / "complete.json").stat().st_mtime for path in entries if (path / "complete.json").exists()}
    kept = sorted(used, key=lambda path: used[path])[-NEWEST:]
    for path in set(entries) - set(kept):
        shutil.rmtree(path, ignore_errors=True)


@cache
def base_digest() -> str:
    """Of all that every entry depends on."""
    helpers = [path for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")]
    helpers = [path for path in helpers if path.parent.name != "hostile"]
    parts = [digest_of(ROOT / room) for room in SOURCES] + [digest_of(path) for path in sorted(helpers)]
    parts += [f"{library} {version(library)}" for library in LIBRARIES]
    return hashlib.sha256("\n".join([*parts, platform.python_version(), platform.machine()]).encode()).hexdigest()


@cache
def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names; what Python compiled is left out."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.endswith(".egg-info"))
        for name in sorted(files):
            digest.update(
                f"{Path(folder, name).relative_to(path).as_posix()} {digest_of(Path(folder, name))}\n".encode()
            )
    return digest.hexdigest()
