"""Where the compiled kernel lies, and whether it may be used here: nothing of it runs before that is known."""

import ctypes
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import openvino
from platformdirs import user_data_path

from ..errors import KernelError, KernelMissing

SOURCES = Path(__file__).parent / "source"
LIBRARY, RECORD = "x2i_attention.so", "x2i_attention.json"
PACKAGE = "x2i_cpu_kernels"
"""The import name of the wheel that brings the compiled kernel, extra `cpu-kernels`."""
MOST_RECORD_BYTES = 10_000
BUILD = "python -m x2i.kernels.build --for cpu"


@dataclass(frozen=True, slots=True)
class Record:
    """What a library was compiled from, for whom: digest of the sources, OpenVINO's release, kind of machine; and its
    own digest, since a library that was cut short ends the process that opens it."""

    source: str
    openvino: str
    machine: str
    sha256: str

    def save(self, folder: Path) -> None:
        """Writes the record beside the library in `folder`."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Library:
    """A compiled kernel that this CPU and this OpenVINO can run: an extension of OpenVINO at `path`."""

    path: Path
    source: str


def library_source_digest() -> str:
    """SHA-256 of the sources that this package has, by their names."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".cpp", ".h"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def openvino_release() -> str:
    """OpenVINO's release, to which a library is tied: such as 2026.4.1."""
    release: str = openvino.__version__.partition("-")[0]
    return release


def build_folder() -> Path:
    """Where the build puts the library and where it is looked for first: in the user's data folder."""
    return user_data_path("x2i", appauthor=False) / "cpu-kernels"


NEEDED = frozenset(f"avx512{name}" for name in ("f", "bw", "dq", "vl", "_vnni", "_bf16"))
"""What the kernel is written with, in the words of Linux."""


def find_library(cpu_flags: frozenset[str] | None = None) -> Library:
    """The first library that may be used: the one built here, then the package's. `cpu_flags` are the features of the
    CPU, in the words of Linux, where they are known: those that lack one of `NEEDED` get no library.

    Raises KernelError with what is wrong with each, KernelMissing with what to install where there is none.
    """
    problems: list[str] = []
    for folder in _folders():
        try:
            return _checked(folder, cpu_flags)
        except KernelError as error:
            problems += error.problems
    if problems:
        raise KernelError(*problems)
    # Nobody is told to install what could not run.
    if lacking := _lacking(cpu_flags):
        raise KernelMissing(f"this CPU lacks {lacking}, with which the kernel is written")
    raise KernelMissing(f"no compiled kernel is there; pip install 'x2i-edge[cpu-kernels]', or {BUILD}")


def _lacking(cpu_flags: frozenset[str] | None) -> str:
    """What of `NEEDED` a CPU has not, in words; nothing where its features are not known."""
    return ", ".join(sorted(NEEDED - cpu_flags)) if cpu_flags else ""


def _folders() -> Iterator[Path]:
    """Those in which something is installed, if only a part of it."""
    if any(os.path.lexists(build_folder() / name) for name in (LIBRARY, RECORD)):
        yield build_folder()
    spec = find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent


def _checked(folder: Path, cpu_flags: frozenset[str] | None) -> Library:
    """The library in a folder; raises KernelError where it is not for this x2i, OpenVINO or CPU, or not whole."""
    record, path = _read_record(folder / RECORD), folder / LIBRARY
    # In this order nothing is opened that another program, or another machine, is meant to open.
    if record.machine != platform.machine():
        raise KernelError(f"{path}: built for {record.machine}, this machine is {platform.machine()}; {BUILD}")
    if record.source != library_source_digest():
        raise KernelError(f"{path}: built from the sources of another x2i; {BUILD}, or upgrade the package with it")
    if record.openvino != openvino_release():
        raise KernelError(f"{path}: built for OpenVINO {record.openvino}, {openvino_release()} is installed; {BUILD}")
    if _digest(path) != record.sha256:
        raise KernelError(f"{path}: is not what was built, {path.stat().st_size} bytes with another digest; {BUILD}")
    lacking = _lacking(cpu_flags)
    if lacking or not cpu_can_attend(path):
        raise KernelError(f"this CPU lacks {lacking or 'instructions'}, with which the kernel is written")
    return Library(path, record.source)


def _digest(path: Path) -> str:
    """SHA-256 of a file; raises KernelError where it is none, or cannot be read."""
    try:
        if not path.is_file():
            raise KernelError(f"{path}: expected the compiled kernel, found no file; {BUILD}")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KernelError(f"{path}: cannot be read: {error.strerror}; {BUILD}") from error


def _read_record(path: Path) -> Record:
    names = [field.name for field in fields(Record)]
    try:
        if path.is_file():
            with path.open("rb") as file:
                told = json.loads(file.read(MOST_RECORD_BYTES))
            if isinstance(told, dict) and set(told) == set(names) and all(isinstance(told[key], str) for key in names):
                return Record(**told)
    except (OSError, ValueError, RecursionError):
        pass
    raise KernelError(f"{path}: expected the record of a compiled kernel, {', '.join(names)} as texts; {BUILD}")


def cpu_can_attend(path: Path) -> bool:
    """Whether this CPU, and its system, have what a library is written with: its own question, which any CPU can ask.

    Raises KernelError where the system cannot open it.
    """
    try:
        return bool(ctypes.CDLL(str(path)).x2i_cpu_can_attend())
    except (OSError, AttributeError) as error:
        raise KernelError(f"{path}: cannot be opened: {error}; {BUILD}") from error
