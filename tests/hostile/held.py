"""What counts as held: a finite picture, or a short refusal; nothing else written, nothing changed, memory bounded."""

import json
import re
import traceback
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from PIL import Image
from x2i.runtime.cli import main

from .room import Room

LINES, CHARACTERS = 24, 1000
"""What a refusal may take: as many problems as a person reads, and each a line of a screen or two."""
EXTRA_MEMORY = 1 << 30
"""Bytes that one input of the tiny bundles may take."""
RAW = re.compile(
    r"std::|Errno|Unable to allocate|Warning: |object has no attribute|Traceback|unforeseen|<[\w.]+ object at 0x"
)
"""What libraries and Python say among themselves."""
OF_OBJECTS = re.compile(RAW.pattern.rpartition("|")[0])
"""The same where the caller's own objects are named."""
NAMED = re.compile(r"^(x2i: error: |Error: )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: `outputs` are the files that it says it writes, `may_write` patterns of paths that it may; with
    `must_refuse` drawing is no answer."""

    arguments: Sequence[str]
    outputs: Sequence[Path] = ()
    may_write: Sequence[str] = ()
    must_refuse: bool = False


def refused_or_drawn(room: Room, command: Command) -> str | None:
    """Runs a command in this process; why it did not hold, None where it did."""
    may_write = [*map(str, command.outputs), *command.may_write]
    return guarded(room, may_write, lambda: _run_command(room, command))


def guarded(room: Room, may_write: Sequence[str], attempt: Callable[[], str | None]) -> str | None:
    """`attempt`, and what it left in the room beside what it may write, and the memory that it took."""
    before, resident = room.contents(), reset_peak()
    problem = attempt()
    return problem or memory_problem(resident) or next(left_behind(before, room.contents(), may_write), None)


def _run_command(room: Room, command: Command) -> str | None:
    before = room.contents()
    room.spoken()
    result = CliRunner().invoke(main, list(command.arguments))
    said = result.stderr + room.spoken()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return traceback_problem(result.exception)
    if result.exit_code not in (0, 2):
        return f"exit code {result.exit_code}: {result.output[-300:]!r}"
    if result.exit_code == 2:
        # What a killed command left may go.
        new = (line for line in left_behind(before, room.contents(), ()) if not line.startswith("removed"))
        written = next(new, None)
        return message_problem(said) or (f"refused, and {written}" if written else None)
    if command.must_refuse:
        return "accepted what it must refuse"
    problem = message_problem(said, refused=False)
    return problem or next(filter(None, map(output_problem, command.outputs)), None)


def traceback_problem(error: BaseException) -> str:
    """An exception that came through: its class, what it says, and the last line of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(f"/{room}/" in frame.filename for room in ("runtime", "export", "models"))]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "outside of x2i"
    return f"{type(error).__module__}.{type(error).__name__} at {where}: {str(error)[:200]!r}"


def message_problem(text: str, refused: bool = True, raw: re.Pattern[str] = RAW) -> str | None:
    """What is wrong with what was said on stderr."""
    # Of a checkpoint every key that does not fit is listed below the line that says so.
    lines = [line for line in text.splitlines() if not line.startswith("x2i: error:   ")]
    odd = {letter for letter in text if not (letter.isprintable() or letter in "\n\r")}
    if odd:
        return f"unprintable {sorted(odd)[:3]!r} in {text[:200]!r}"
    if found := raw.search(text):
        return f"raw: {found[0]!r} in {text[-300:]!r}"
    if len(lines) > LINES or any(len(line) > CHARACTERS for line in lines):
        return f"long: {len(lines)} lines, the longest of {max(map(len, lines), default=0)} characters: {text[:200]!r}"
    if refused and not NAMED.search(text):
        return f"refused without a word: {text[:200]!r}"
    return None


def output_problem(path: Path) -> str | None:
    """Why a written file is not what was asked for."""
    if not path.exists():
        return f"said it was done, and wrote no {path.name}"
    if path.suffix == ".npy":
        return None if np.isfinite(np.load(path)).all() else "drew latents that are not finite"
    if path.suffix == ".json":
        return json_problem(path.read_text("utf-8"))
    if path.suffix == ".txt":
        return None if path.read_text("utf-8").endswith("\n") else "wrote a text without an end"
    if path.suffix == ".html":
        return None if path.read_text("utf-8").rstrip().endswith("</html>") else "wrote a page without an end"
    if path.suffix == ".wav":
        with wave.open(str(path), "rb") as sound:
            return None if sound.getnframes() else "wrote a sound of nothing"
    if path.is_file():
        Image.open(path).load()
    return None


def json_problem(text: str) -> str | None:
    """Why a text is not JSON in the strict sense, without NaN."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return f"wrote JSON that is none: {error}"
    return None


def left_behind(before: dict, after: dict, may_write: Sequence[str]) -> Iterator[str]:
    """What is new in the room, gone or changed, and fits none of the patterns."""
    for path in before.keys() | after.keys():
        if before.get(path) != after.get(path) and not any(fnmatchcase(path, pattern) for pattern in may_write):
            how = "changed" if path in before and path in after else "removed" if path in before else "left behind"
            yield f"{how} {path}"


def reset_peak() -> int:
    """Bytes in memory now; from here on the largest is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory_problem(resident: int) -> str | None:
    """Whether more was taken since `reset_peak` than any of these inputs may."""
    more = memory("VmHWM") - resident
    return f"memory: took {more / 1e9:.1f} GB" if more > EXTRA_MEMORY else None


def memory(field: str) -> int:
    """A field of this process's status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
