"""Commands that are killed at any moment: what was there stays whole, nothing half-written opens, nothing is left."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from x2i.export.errors import PlanError
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError

from .case import Case
from .checkpoints import without_tracing
from .environments import X2I
from .held import Command, left_behind, refused_or_drawn
from .room import Room
from .systems import drawing
from .values import drawn

SYSTEM = "gluegen-text"
SECONDS = 30
ORPHANS_SECONDS = 1.0
"""What a child takes to see that its parent is gone."""


def kill_cases() -> Iterator[Case]:
    """`kill -9` at moments that hypothesis draws, and the polite signals."""
    for seed, (name, (number, most)) in enumerate(MOMENTS.items()):
        for moment in drawn(st.floats(0.0, most), number, seed):
            yield Case(
                "kill", f"{name}: KILL {moment:.3f} s after it began", partial(_killed, name, signal.SIGKILL, moment)
            )
        for number_of_signal in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            for share in (0.3, 0.6, 0.9):
                moment = share * most
                label = f"{name}: {number_of_signal.name} {moment:.3f} s after it began"
                yield Case("kill", label, partial(_killed, name, number_of_signal, moment))


def _killed(name: str, number: int, moment: float, room: Room) -> str | None:
    words = COMMANDS[name](room)
    before = room.contents()
    process = subprocess.Popen(
        [X2I, *words.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore it, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _wait_until_begun(process, room, before)
    time.sleep(moment)
    process.send_signal(number)
    try:
        process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"hang: went on for {SECONDS} s"
    time.sleep(ORPHANS_SECONDS)
    if problem := _opens_broken(room):
        return problem
    may_write = [*map(str, words.outputs), *words.may_write]
    if number == signal.SIGKILL:
        # The next start of anything that writes there takes away what the dead have left.
        with SWEEPING.get(name, nullcontext)():
            if problem := refused_or_drawn(room, replace(words, may_write=[*words.may_write, "*/.*"])):
                return f"the next start: {problem}"
        may_write += ["*/made", "*/made/*"]
    return next(left_behind(before, room.contents(), may_write), None)


def _wait_until_begun(process: subprocess.Popen[bytes], room: Room, before: dict[str, Any]) -> None:
    """Until the command has written something, or ended: before it there is nothing that a kill could leave half."""
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end and room.contents() == before:
        time.sleep(0.01)


def _opens_broken(room: Room) -> str | None:
    """Every folder with a manifest opens with all its files checked, or is refused."""
    for manifest in [*room.work.rglob("manifest.json"), *(room.root / "bundles").rglob("manifest.json")]:
        folder = manifest.parent
        try:
            open_bundle(folder)
        except InputError as error:
            # Nobody takes a hidden folder for a bundle.
            if not any(part.startswith(".") for part in folder.relative_to(room.root).parts):
                return f"half-written: {folder.name}: {str(error)[:200]!r}"
    return None


def _on_bundle(*words: str, writes: str) -> Callable[[Room], Command]:
    def command(room: Room) -> Command:
        places = {"BUNDLE": str(room.bundle(SYSTEM)), "WORK": str(room.work)}
        named = list(words)
        for short, place in places.items():
            named = [word.replace(short, place) for word in named]
            writes_there = writes.replace("BUNDLE", places["BUNDLE"]).replace("WORK", places["WORK"])
        return Command(named, may_write=[writes_there])

    return command


COMMANDS: dict[str, Callable[[Room], Command]] = {
    "run": lambda room: drawing(room, SYSTEM, "--steps", "20"),
    "build": _on_bundle("build", "BUNDLE", "--for", "cpu", writes="BUNDLE/engines*"),
    "tune": _on_bundle(
        *("tune", "BUNDLE", "--steps", "12", "--size", "64x64", "--runs", "1", "--backend", "cpu", "--quality", "5"),
        writes="BUNDLE/*[!.]*",
    ),
    "lower": _on_bundle(
        *("lower", "BUNDLE", "WORK/made", "--precision", "fp16", "--trial-steps", "1", "--trial-size", "64x64"),
        writes="WORK/made*",
    ),
    "export": _on_bundle("export", "sd", "WORK/made", "--random-weights", "tiny", writes="WORK/made*"),
}
MOMENTS = {"run": (20, 0.5), "build": (20, 1.5), "tune": (20, 4.0), "lower": (12, 5.0), "export": (8, 10.0)}
"""How often each is killed, and within how many seconds after it began."""


def _without_lowering() -> Any:
    return mock.patch("x2i.export.lower.lowered_bundle.lowered_graph", side_effect=PlanError("swept"))


def _without_search() -> Any:
    return mock.patch("x2i.export.tune.tune.load", side_effect=PlanError("swept"))


SWEEPING: dict[str, Callable[[], Any]] = {
    "tune": _without_search,
    "lower": _without_lowering,
    "export": without_tracing,
}
"""What ends the next start where its work would begin: then the dead ones' folders are gone already."""
