"""`python -m x2i.kernels.build --for cpu`: what it leaves, and what it says where it cannot."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from x2i.kernels.build import build_kernels
from x2i.kernels.cpu_attention import compile as compiling
from x2i.kernels.cpu_attention import library
from x2i.kernels.cpu_attention.library import LIBRARY, RECORD

from tests.processes import run


@pytest.fixture
def looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where x2i looks for a kernel, with nothing in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "x2i" / "cpu-kernels"


def build(*words: str | Path) -> Result:
    return CliRunner().invoke(build_kernels, ["--for", "cpu", *map(str, words)])


def refusal(*words: str | Path) -> str:
    """The one line that it ends with."""
    result = build(*words)
    assert result.exit_code == 2 and not result.stdout, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: error: ")
    return line.removeprefix("x2i: error: ")


def test_it_is_found_where_it_is_built(looked_in: Path, compiled_kernel: Path) -> None:
    result = build()
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    size = (looked_in / LIBRARY).stat().st_size
    assert line.startswith(f"{looked_in / LIBRARY}: {size:,} bytes for OpenVINO {library.openvino_release()}, ")
    assert line.endswith(" s; this CPU can run it")
    assert {file.name for file in looked_in.iterdir()} == {LIBRARY, RECORD}
    assert library.find_library().path == looked_in / LIBRARY


def test_it_says_where_x2i_looks_and_what_the_cpu_lacks(
    looked_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_library(folder: Path) -> Path:
        folder.mkdir()
        (folder / LIBRARY).write_bytes(bytes(1234))
        return folder / LIBRARY

    monkeypatch.setattr(compiling, "compile_library", compile_library)
    monkeypatch.setattr(library, "cpu_can_attend", lambda path: False)
    first, second = build("--out", tmp_path / "out").stdout.splitlines()
    assert "1,234 bytes" in first and first.endswith("; this CPU lacks instructions with which it is written")
    assert second == f"x2i looks in {looked_in}, where it is written without --out"


COMPILERS = {
    "none": ("", "expected a C++ compiler, c++ or g++ or clang++, found none; install g++, or name one in CXX"),
    "names nothing": ("no-such-compiler -O9", "expected a C++ compiler, no-such-compiler, found none"),
    "no command": ("g++ 'of mine", "CXX: expected a command, got g++ 'of mine: No closing quotation"),
    "fails": ("sh fails.sh", "sh failed: a.cpp:1: error: no such thing; g++ 11 and clang 14 or later can compile it"),
    "fails without a word": ("false", "false failed: exit code 1; g++ 11"),
    "makes nothing": ("true", "true: expected a library, got what cannot be opened: "),
    "makes no library": ("sh writes.sh", "sh: expected a library, got what cannot be opened: "),
}
SCRIPTS = {
    "fails.sh": "echo 'In file included from here' >&2; echo 'a.cpp:1: error: no such thing' >&2; exit 1",
    "writes.sh": 'while [ "$1" != -o ]; do shift; done; echo no library >"$2"',
}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is written for Linux")
@pytest.mark.parametrize("name", COMPILERS)
def test_a_compiler_that_does_not(looked_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And what was there stays as it was."""
    command, expected = COMPILERS[name]
    looked_in.mkdir(parents=True)
    (looked_in / LIBRARY).write_bytes(b"before")
    for file, text in SCRIPTS.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", command)
    monkeypatch.setattr(compiling.platform, "machine", lambda: "x86_64")
    if not command:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal().startswith(expected)
    assert {file.name: file.read_bytes() for file in looked_in.iterdir()} == {LIBRARY: b"before"}


def test_another_machine(looked_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.platform, "machine", lambda: "aarch64")
    assert refusal() == "the kernel is written for x86_64 on Linux, this is aarch64"
    assert not looked_in.exists()


def test_an_openvino_without_its_headers(looked_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compiling.openvino, "__file__", str(tmp_path / "openvino" / "__init__.py"))
    monkeypatch.setenv("CXX", "true")
    assert refusal().startswith(f"expected headers and libopenvino.so.* in {tmp_path / 'openvino'}")


def test_a_folder_that_cannot_be_written(looked_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("CXX", "true")
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "folder"
    assert refusal("--out", out) == f"{out}: Not a directory; name another folder with --out"


def test_options_of_the_other_kind(looked_in: Path, tmp_path: Path) -> None:
    told = refusal("--target", "sm_89", "--head-width", "40")
    assert told == "--target, --head-width: expected with --for gpu alone, got --for cpu; leave out one or the other"
    for words in ([], ["--for", "gpu"]):
        result = CliRunner().invoke(build_kernels, words)
        assert result.exit_code == 2
        assert result.stderr.startswith("x2i: error: --out: expected a folder for the kernels of GPUs, got none; ")


@pytest.mark.parametrize(
    ("absent", "words", "expected"),
    [
        ("triton torch cuda", ["--for", "cpu"], "expected a C++ compiler, no-such-compiler, found none"),
        ("triton", ["--out", "out"], "--for gpu needs triton ("),
        ("openvino", ["--for", "cpu"], "--for cpu needs openvino ("),
    ],
)
def test_each_kind_needs_its_own_alone(tmp_path: Path, absent: str, words: list[str], expected: str) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}.split()));"
        "import platform; platform.machine = lambda: 'x86_64';"
        f"from x2i.kernels.build import build_kernels; build_kernels({words!r})"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path, code=2, CXX="no-such-compiler", PYTHONSAFEPATH="1")
    assert done.stderr.startswith(f"x2i: error: {expected}")
    assert not list(tmp_path.iterdir())
