"""At the edge of every command, any failure of any library is one line a problem with exit code 2; text is shown as
characters, never as what moves a terminal's cursor."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from x2i.runtime import cli, load
from x2i.runtime.cli import main
from x2i.runtime.commands import inspect as inspecting
from x2i.runtime.errors import LINE_LENGTH, InputError, one_line, reason
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession
from x2i.runtime.sessions.session import GraphFile, library_edge

PANIC = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
ERRORS: list[tuple[BaseException, str]] = [
    (InputError("first: expected a, got b", "second: expected c, got d"), "second: expected c"),
    (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: .*Permission denied; check its permissions"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), "choose a shorter name"),
    (OSError(errno.ENOSPC, "No space left on device"), "free space"),
    (OSError("16384 requested and 992 written"), "16384 requested and 992 written; "),
    (MemoryError(), "expected enough memory"),
    (MemoryError("Unable to allocate 32.0 GiB for an array"), "got too little memory for 32.0 GiB; try a smaller"),
    (RuntimeError("std::bad_alloc"), "got too little memory; try a smaller"),
    (RecursionError("maximum recursion depth exceeded"), "nested a few levels"),
    (OverflowError("Python int too large to convert to C long"), "numbers that fit"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "text in Unicode"),
    (ValueError("embedded null byte"), "unforeseen ValueError: embedded null byte; please report"),
    (KeyError("x"), "unforeseen KeyError"),
    (AssertionError(), "unforeseen AssertionError"),
    (PANIC("called `Option::unwrap()` on a `None` value"), "unforeseen PanicException: called"),
]


def refused(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("x2i: error: ") for line in lines), result.stderr
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert not any(raw in result.stderr for raw in ("Errno", "std::", "Unable to allocate", "Traceback"))
    return lines


@pytest.mark.parametrize(("error", "told"), ERRORS, ids=lambda one: type(one).__name__)
def test_any_failure_is_told_in_lines(error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(inspecting, "open_bundle", fail)
    lines = refused(CliRunner().invoke(main, ["inspect", "bundle"]))
    assert len(lines) == len(getattr(error, "problems", [0]))
    import re

    assert re.search(told, lines[-1])


def test_many_problems_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise InputError(*(f"problem {number}" for number in range(1000)))

    monkeypatch.setattr(inspecting, "open_bundle", fail)
    lines = refused(CliRunner().invoke(main, ["inspect", "bundle"]))
    assert len(lines) == 21 and lines[-1].endswith("and 980 more problems")


def test_ctrl_c_and_a_usage_error_are_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspecting, "open_bundle", stop)
    assert CliRunner().invoke(main, ["inspect", "bundle"]).exit_code == 1
    result = CliRunner().invoke(main, ["inspect", "bundle", "\x1b[31m" + "x" * 10_000])
    assert result.exit_code == 2 and all(line.isprintable() and len(line) < 1000 for line in result.stderr.splitlines())
    assert "No such command" in CliRunner().invoke(main, ["dra\x07w"]).stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 赤 ünï", "plain é 赤 ünï"),
        ("a\nb\r\x1b[31mred\x07", r"a\nb\r\x1b[31mred\x07"),
        ("\u202eabc\u2028\x85\ufeff", r"\u202eabc\u2028\x85\ufeff"),
        ("half \ud800, \x00, \U000fa5e3", r"half \ud800, \x00, \U000fa5e3"),
    ],
)
def test_a_line_shows_characters_alone(text: str, shown: str) -> None:
    assert one_line(text) == shown == one_line(shown)


@pytest.mark.parametrize("text", ["x" * 10**6, "\x1b" * 10**6, "é" * 901])
def test_a_line_ends(text: str) -> None:
    once = one_line(f"begin {text} end")
    assert len(once) <= LINE_LENGTH and once.startswith("begin") and once.endswith("end") and "more" in once
    assert one_line(once) == once and len(InputError(text).problems[0]) <= LINE_LENGTH


def test_a_long_prompt_is_told_shortly(tiny_bundle: Path) -> None:
    output = load(tiny_bundle)(
        "\x1b[2Jred " * 20_000, negative="a b " * 5000, language="French", steps=1, size=(16, 16)
    )
    prompts = [note.partition(":")[0] for note in output.warnings]
    assert {"prompt", "negative prompt"} <= set(prompts)
    assert all(len(note) < 400 and note.isprintable() for note in output.warnings)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json"), ("inspect", "BUNDLE"), ("--help",)])
def test_a_full_disk_behind_stdout(words: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    x2i = Path(sys.executable).with_name("x2i")
    command = [str(tiny_bundle) if word == "BUNDLE" else word for word in words]
    with open("/dev/full", "w") as full:
        process = subprocess.run([x2i, *command], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    assert line.startswith("x2i: error: ") and "No space left on device; free space" in line
    assert ("stdout: " in line) == (words != ("--help",))


def test_a_reader_that_has_seen_enough(tiny_bundle: Path, tmp_path: Path) -> None:
    out, into = os.pipe()
    os.close(out)
    x2i = Path(sys.executable).with_name("x2i")
    process = subprocess.run(
        [x2i, "inspect", tiny_bundle], stdout=into, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    os.close(into)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("before", [None, signal.SIG_DFL, signal.SIG_IGN], ids=["not Python's", "default", "ignored"])
def test_signals_stop_and_are_given_back(number: int, before: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the handler before is none that Python could set again."""
    handlers = {number: before}
    monkeypatch.setattr(cli, "STOPS", (number,))
    monkeypatch.setattr(cli.signal, "getsignal", handlers.__getitem__)

    def set_handler(one: int, handler: object) -> None:
        assert handler is not None, "signal.signal refuses it"
        handlers[one] = handler

    monkeypatch.setattr(cli.signal, "signal", set_handler)
    with cli._terminable():
        assert (handlers[number] is before) == (before is signal.SIG_IGN)
        if callable(handlers[number]) and before is not signal.SIG_IGN:
            with pytest.raises(KeyboardInterrupt):
                handlers[number](number, None)  # type: ignore[operator]
    assert handlers[number] in (before, signal.SIG_DFL)


@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb"), ValueError(""), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), KeyError(1)]
)
def test_whatever_a_session_library_raises(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"^failed: .+; try again$"),
        library_edge(lambda why: InputError(f"failed: {why}; try again")),
    ):
        raise error


RUBBISH: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no graph"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "bits": lambda path: path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes())),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_graph_that_is_none(kind: str, tiny_bundle: Path, tmp_path: Path) -> None:
    graph = tmp_path / "projection.onnx"
    graph.write_bytes((tiny_bundle / "projection.onnx").read_bytes())
    RUBBISH[kind](graph)
    for opened in (lambda: open_session("cpu", GraphFile("g", graph)), lambda: OnnxRuntimeSession(graph)):
        with pytest.raises(InputError, match="cannot open this graph"):
            opened()


def test_a_call_that_no_library_takes(tiny_bundle: Path) -> None:
    session = load(tiny_bundle).session("projection")
    (name, *_) = [tensor.name for tensor in session.inputs]
    for arrays in (
        {},
        {name: None},
        {name: np.array(["a\ud800"])},
        {name: np.zeros(3, object)},
        {"\ud800": np.zeros(3)},
    ):
        with pytest.raises(InputError):
            session(**arrays)  # type: ignore[arg-type]


def test_a_reason_is_one_line() -> None:
    assert reason(RuntimeError("\n  \nfirst\nsecond")) == "first"
    assert reason(KeyError()) == "KeyError"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for words in (["share", "loop", "loop"], ["inspect", "loop"], ["verify", "loop"], ["run", "loop", "a"]):
        result = CliRunner().invoke(main, [str(tmp_path / word) if word == "loop" else word for word in words])
        assert result.exit_code == 2 and "unforeseen" not in result.stderr, result.stderr
