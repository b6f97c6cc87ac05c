"""Compiles the kernel with the C++ compiler of this machine, against the OpenVINO that is installed."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import openvino

from ..errors import KernelError
from .library import LIBRARY, NEEDED, SOURCES, Record, cpu_can_attend, library_source_digest, openvino_release

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-DNDEBUG")
FILE_FLAGS = {"block_avx512.cpp": tuple(f"-m{name.replace('_', '')}" for name in sorted(NEEDED))}
"""Instructions beyond those that every x86-64 CPU has, for the one file that may use them."""
MOST_SECONDS = 300


def compile_library(folder: Path) -> Path:
    """Compiles the kernel into a folder, with its record; returns the library, 0.13 MB in about 6 s.

    The compiler is $CXX, or the first of `COMPILERS`. Raises KernelError where there is none, where it fails, or for a
    machine that the kernel is not written for, OSError where the folder cannot be written; what was in the folder then
    stays as it was.
    """
    if platform.machine() != "x86_64" or os.name != "posix":
        raise KernelError(f"the kernel is written for x86_64 on Linux, this is {platform.machine()}")
    compiler, package = _compiler(), Path(openvino.__file__).parent
    libraries = [_library(package, name) for name in ("libopenvino.so.*", "libtbb.so.*")]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made, objects = Path(name) / LIBRARY, []
        for source in sorted(SOURCES.glob("*.cpp")):
            objects.append(str(Path(name) / f"{source.stem}.o"))
            flags = [*FLAGS, *FILE_FLAGS.get(source.name, ()), "-isystem", str(package / "include")]
            _run([*compiler, *flags, "-c", str(source), "-o", objects[-1]])
        _run([*compiler, "-shared", "-s", "-o", str(made), *objects, *map(str, libraries)])
        _opened(made, compiler)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        Record(library_source_digest(), openvino_release(), platform.machine(), digest).save(Path(name))
        for path in (made, made.with_suffix(".json")):
            path.replace(folder / path.name)
    return folder / LIBRARY


def _compiler() -> list[str]:
    try:
        told = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise KernelError(f"CXX: expected a command, got {os.environ['CXX']}: {error}") from error
    found = [told] if told else [[name] for name in COMPILERS]
    for command in found:
        if shutil.which(command[0]):
            return command
    names = " or ".join(command[0] for command in found)
    raise KernelError(f"expected a C++ compiler, {names}, found none; install g++, or name one in CXX")


def _library(package: Path, pattern: str) -> Path:
    found = sorted((package / "libs").glob(pattern))
    if not found or not (package / "include").is_dir():
        raise KernelError(
            f"expected headers and {pattern} in {package}, as OpenVINO's wheel has them; pip install openvino"
        )
    return found[0]


def _opened(made: Path, compiler: list[str]) -> None:
    """Raises KernelError where what a compiler made is no library that the system opens."""
    try:
        cpu_can_attend(made)
    except KernelError as error:
        raise KernelError(
            f"{compiler[0]}: expected a library, got what cannot be opened: {error.__cause__}; "
            "name another compiler in CXX"
        ) from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=MOST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{command[0]}: {error}; name another compiler in CXX") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
        said = lines[0] if lines else f"exit code {done.returncode}"
        raise KernelError(f"{command[0]} failed: {said}; g++ 11 and clang 14 or later can compile it")
