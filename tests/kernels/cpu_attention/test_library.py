"""What is wrong with a compiled kernel is told in a line, nothing of it is opened, and OpenVINO's attention runs."""

import ctypes
import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.kernels.cpu_attention import compile as compiling
from x2i.kernels.cpu_attention import library
from x2i.kernels.cpu_attention.library import BUILD, LIBRARY, NEEDED, RECORD, Library, Record, find_library
from x2i.kernels.cpu_attention.openvino_op import CpuAttention, open_kernel
from x2i.kernels.errors import KernelError, KernelMissing

from tests.made_once import made_once
from tests.processes import run

RELEASE, MACHINE = library.openvino_release(), platform.machine()
OTHER = "x86_64" if MACHINE == "aarch64" else "aarch64"
Change = Callable[[Path], object]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where x2i looks, with a library that is whole by its record, and would end the process that runs it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "x2i" / "cpu-kernels"
    folder.mkdir(parents=True)
    content = b"\x7fELF" + bytes(2000)
    (folder / LIBRARY).write_bytes(content)
    record = Record(library.library_source_digest(), RELEASE, MACHINE, hashlib.sha256(content).hexdigest())
    record.save(folder)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The libraries that were opened, none of which is."""
    names: list[str] = []

    def note(name: str) -> None:
        names.append(name)
        raise OSError("not opened")

    monkeypatch.setattr(ctypes, "CDLL", note)
    return names


def record(**changed: object) -> Change:
    def change(folder: Path) -> None:
        told = json.loads((folder / RECORD).read_text("utf-8")) | changed
        (folder / RECORD).write_text(json.dumps({key: value for key, value in told.items() if value is not None}))

    return change


def written(content: bytes) -> Change:
    return lambda folder: (folder / RECORD).write_bytes(content)


def a_folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def one_byte(folder: Path) -> None:
    content = bytearray((folder / LIBRARY).read_bytes())
    content[1000] ^= 1
    (folder / LIBRARY).write_bytes(content)


def around_itself(folder: Path) -> None:
    (folder / LIBRARY).unlink()
    (folder / LIBRARY).symlink_to(folder / LIBRARY)


NO_RECORD = "expected the record of a compiled kernel, source, openvino, machine, sha256 as texts"
BAD: dict[str, tuple[Change, str]] = {
    "other sources": (record(source="0" * 64), "built from the sources of another x2i"),
    "other OpenVINO": (record(openvino="2025.2.0"), f"built for OpenVINO 2025.2.0, {RELEASE} is installed"),
    "other machine": (record(machine=OTHER), f"built for {OTHER}, this machine is {MACHINE}"),
    "cut short": (
        lambda folder: (folder / LIBRARY).write_bytes(b"\x7fELF"),
        "is not what was built, 4 bytes with another digest",
    ),
    "empty": (
        lambda folder: (folder / LIBRARY).write_bytes(b""),
        "is not what was built, 0 bytes with another digest",
    ),
    "one byte changed": (one_byte, "is not what was built, 2004 bytes with another digest"),
    "no library": (lambda folder: (folder / LIBRARY).unlink(), "expected the compiled kernel, found no file"),
    "a folder as library": (a_folder(LIBRARY), "expected the compiled kernel, found no file"),
    "a link to itself": (around_itself, "expected the compiled kernel, found no file"),
    "no record": (lambda folder: (folder / RECORD).unlink(), NO_RECORD),
    "a folder as record": (a_folder(RECORD), NO_RECORD),
    "a record that is no JSON": (written(b"source=1"), NO_RECORD),
    "a record that is no text": (written(b"\xff\xfe\x00"), NO_RECORD),
    "a deep record": (written(b"[" * 9000), NO_RECORD),
    "a huge record": (written(b'{"source": "' + b"a" * 50_000_000 + b'"}'), NO_RECORD),
    "a list": (written(b"[1, 2]"), NO_RECORD),
    "a key less": (record(sha256=None), NO_RECORD),
    "a key more": (record(url="https://example.org"), NO_RECORD),
    "a number": (record(source=1), NO_RECORD),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_a_line_and_nothing_is_opened(fake: Path, opened: list[str], name: str) -> None:
    change, expected = BAD[name]
    change(fake)
    with pytest.raises(KernelError) as refused:
        find_library(NEEDED)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(str(fake)) and expected in line and BUILD in line, line
    assert not isinstance(refused.value, KernelMissing) and not opened


def test_what_cannot_be_read(fake: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by a file that denies itself, since tests may run as who may read everything."""

    def deny(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", deny)
    with pytest.raises(KernelError, match=f"{LIBRARY}: cannot be read: Permission denied; {BUILD}"):
        find_library(NEEDED)
    assert not opened


@pytest.mark.parametrize("lacking", sorted(NEEDED))
def test_a_cpu_without_the_instructions_opens_nothing(fake: Path, opened: list[str], lacking: str) -> None:
    with pytest.raises(KernelError, match=f"^this CPU lacks {lacking}, with which the kernel is written$"):
        open_kernel(NEEDED - {lacking})
    assert not opened
    # And is not told to install what it could not run.
    shutil.rmtree(fake)
    with pytest.raises(KernelMissing, match=f"^this CPU lacks {lacking}, with which the kernel is written$"):
        open_kernel(NEEDED - {lacking})


def test_a_cpu_of_which_nothing_is_known_is_asked_by_the_library(fake: Path, opened: list[str]) -> None:
    for flags in (None, frozenset[str]()):
        with pytest.raises(KernelError, match="cannot be opened: not opened"):
            find_library(flags)
    assert opened == [str(fake / LIBRARY)] * 2


def test_what_is_no_library_is_a_line(fake: Path) -> None:
    """Whole by its record, and yet nothing that the system opens."""
    with pytest.raises(KernelError, match=rf"{LIBRARY}: cannot be opened: .*; {BUILD}$") as refused:
        open_kernel(NEEDED)
    assert len(str(refused.value).splitlines()) == 1


def test_nothing_installed_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for flags in (NEEDED, None):
        with pytest.raises(KernelMissing, match=rf"pip install 'x2i-edge\[cpu-kernels\]', or {BUILD}$"):
            find_library(flags)


def test_the_package_serves_where_what_was_built_is_of_another_x2i(
    fake: Path, compiled_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / library.PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    record(source="0" * 64)(fake)
    # An installed package that has lost its files is told, too.
    with pytest.raises(KernelError) as refused:
        find_library(NEEDED)
    assert [line.partition(":")[0] for line in refused.value.problems] == [str(fake / LIBRARY), str(package / RECORD)]
    for name in (LIBRARY, RECORD):
        shutil.copy(compiled_kernel / name, package)
    assert find_library(NEEDED).path == package / LIBRARY


@pytest.fixture(scope="session")
def unwilling_kernel() -> Path:
    """The folder of a kernel that takes every CPU for one without the instructions."""

    def make(folder: Path) -> None:
        sources = folder.with_name("sources")
        shutil.copytree(library.SOURCES, sources)
        text = (sources / "attention.cpp").read_text("utf-8")
        assert text.count("    __builtin_cpu_init();\n") == 1
        text = text.replace("    __builtin_cpu_init();\n", "    return false;\n")
        (sources / "attention.cpp").write_text(text, encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiling, "SOURCES", sources)
            compiling.compile_library(folder)

    try:
        return made_once("cpu-kernel-unwilling", make, [library.SOURCES])
    except KernelError as error:
        pytest.skip(str(error))


def test_the_librarys_own_question_counts(
    unwilling_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shutil.copytree(unwilling_kernel, library.build_folder())
    with pytest.raises(KernelError, match=r"^this CPU lacks instructions, with which the kernel is written$"):
        find_library(NEEDED)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_it_does_not_compute_is_no_number(unwilling_kernel: Path, threads: int) -> None:
    """Also behind it in the graph: with one thread, OpenVINO loses an error and gives out memory as it finds it."""
    kernel = CpuAttention(Library(unwilling_kernel / LIBRARY, "tested"))
    given = [ops.parameter([1, 8, 40], openvino.Type.f32) for _ in range(3)]
    tensors = tuple(ops.convert(one, "bf16").output(0) for one in given)
    made = ops.convert(kernel.node(tensors, 1, 0.1, "bf16"), "f32")
    core = openvino.Core()
    core.add_extension(kernel.extension)
    compiled = core.compile_model(
        openvino.Model([ops.add(made, np.float32(1)).output(0)], given),
        "CPU",
        {"INFERENCE_NUM_THREADS": threads},
    )
    assert np.isnan(compiled([np.ones((1, 8, 40), np.float32)] * 3)[0]).all()


@pytest.fixture(scope="module")
def lowered_bundle(tiny_bundle: Path) -> Path:
    """A bundle with a graph in bfloat16, which asks for the kernel by itself."""
    return made_once("tiny-bf16", lambda out: lower(tiny_bundle, out, Lowering({"": "bf16"}, accept=True)))


@pytest.mark.parametrize("name", [None, "other OpenVINO", "one byte changed", "a folder as record"])
def test_a_run_draws_the_same_and_is_told_once(
    fake: Path, lowered_bundle: Path, tmp_path: Path, name: str | None
) -> None:
    words = (lowered_bundle, "x", "--language", "French", "--steps", "1", "--size", "24x16", "--backend", "openvino")

    def drawn(file: str) -> tuple[bytes, list[str]]:
        command = (sys.executable, "-c", "from x2i.runtime.cli import main; main()", "run", *words, "--out", file)
        said = run(*map(str, command), cwd=tmp_path, PYTHONSAFEPATH="1").stderr
        return (tmp_path / file).read_bytes(), [line for line in said.splitlines() if "attention" in line]

    if name is None:
        shutil.rmtree(fake)
        assert drawn("alone.png")[1] == []
        return
    change, expected = BAD[name]
    change(fake)
    picture, lines = drawn("refused.png")
    assert len(lines) == 1 and expected in lines[0], lines
    assert lines[0].startswith("x2i: warning: attention: OpenVINO's own runs, since the kernel cannot: ")
    shutil.rmtree(fake)
    assert drawn("alone.png") == (picture, [])
