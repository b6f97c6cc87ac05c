"""Progress bars: on a terminal's stderr, never elsewhere, and never inside a line of stdout."""

import io
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from x2i.runtime.commands.progress import bars, echo, progress_bar, track

from tests.processes import imported, run

PROGRAM = """
import sys
from x2i.runtime.commands.progress import bars, echo, track
with bars(sys.argv[1] == "shown"):
    for number in track(range(3), "counting", unit="step"):
        echo(f"line {number}")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_in(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr, from here on; a fixture's would be pytest's own again when the test begins."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def on_a_terminal(*command: str | Path, cwd: Path, columns: int = 100) -> tuple[str, str]:
    """What a program prints on stdout, a pipe, and on stderr, a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    words = [str(word) for word in command]
    with subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        screen = _read_all(ours)
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0, screen
    return out, screen


def _read_all(terminal: int) -> str:
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            # Linux ends a terminal without writers with EIO.
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_shows_how_far_it_is_and_stdout_has_the_lines_alone(tmp_path: Path, columns: int):
    out, screen = on_a_terminal(sys.executable, "-c", PROGRAM, "shown", cwd=tmp_path, columns=columns)
    assert out == "line 0\nline 1\nline 2\n"
    assert "counting:" in screen and "0/3" in screen


def test_bars_that_a_command_did_not_ask_for_are_not_shown(tmp_path: Path):
    assert on_a_terminal(sys.executable, "-c", PROGRAM, "hidden", cwd=tmp_path) == ("line 0\nline 1\nline 2\n", "")


def test_no_bar_goes_into_a_log(tmp_path: Path):
    process = run(sys.executable, "-c", PROGRAM, "shown", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert process.stdout == "line 0\nline 1\nline 2\n"
    assert "counting" not in process.stderr and "tqdm" not in imported(process.stderr)


def test_the_time_left_is_shown_and_the_bar_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_in(monkeypatch)
    with bars(), progress_bar("building", 10, "s") as bar:
        bar.move_to(5)
        bar.move_to(8, total=16)
        bar.advance()
    screen = terminal.getvalue()
    assert "building:" in screen and "<" in screen
    assert screen.endswith("\r"), "the line is cleared"


def test_a_tracked_iterator_gives_its_items(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_in(monkeypatch)
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert terminal.getvalue() == ""
    with bars():
        assert list(track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert "letters:   0%" in terminal.getvalue() and "0/3" in terminal.getvalue()


def test_lines_stay_whole_under_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    terminal_in(monkeypatch)
    with bars(), progress_bar("working", 2):
        echo("first")
        echo("second")
    assert capsys.readouterr().out == "first\nsecond\n"


def test_an_error_takes_the_bars_away_before_it_is_told(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        letters = track("abc", "letters")
        for _ in letters:
            raise ValueError

    terminal = terminal_in(monkeypatch)
    with pytest.raises(ValueError) as refused, bars():
        fail()
    assert refused.traceback[-1].frame.f_locals["letters"], "the traceback keeps the bar's loop"
    assert terminal.getvalue().endswith("\r")


def test_bars_end_with_their_block(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_in(monkeypatch)
    with pytest.raises(KeyboardInterrupt), bars(), progress_bar("working", 2):
        raise KeyboardInterrupt
    shown = terminal.getvalue()
    with progress_bar("working", 2) as bar:
        bar.advance()
    assert terminal.getvalue() == shown


def test_run_shows_its_steps_on_a_terminal(tiny_bundle: Path, tmp_path: Path):
    x2i = Path(sys.executable).parent / "x2i"
    words = ["run", tiny_bundle, "a", "--language", "French", "--backend", "cpu", "--steps", "2", "--size", "16x16"]
    out, screen = on_a_terminal(x2i, *words, cwd=tmp_path)
    assert out.startswith("out.png\n") and "drawing:" in screen


def test_verify_shows_its_graphs_on_a_terminal_and_prints_the_same_lines(tiny_bundle: Path, tmp_path: Path):
    x2i = Path(sys.executable).parent / "x2i"
    out, screen = on_a_terminal(x2i, "verify", tiny_bundle, "--backend", "cpu", cwd=tmp_path)
    assert "graphs:" in screen
    assert out == run(x2i, "verify", tiny_bundle, "--backend", "cpu", cwd=tmp_path).stdout
    silent, screen = on_a_terminal(x2i, "verify", tiny_bundle, "--backend", "cpu", "--json", cwd=tmp_path)
    assert silent.startswith("{") and "graphs:" not in screen
