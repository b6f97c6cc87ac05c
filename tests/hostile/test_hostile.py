"""A small part of the corpus holds, and what tries it sees every fault that it is there for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from x2i.export.systems.registry import SYSTEMS as EXPORTED
from x2i.runtime.cli import main

from tests.hostile.held import left_behind, message_problem, output_problem
from tests.hostile.known import KNOWN
from tests.hostile.manifests import wrongs
from tests.hostile.options import BASES
from tests.hostile.pool import results
from tests.hostile.registry import KINDS
from tests.hostile.room import contents
from tests.hostile.systems import SYSTEMS
from tests.hostile.values import NUMBERS, drawn

EVERY = 150
"""So few of the corpus are tried in every test run: all of its kinds, in a few seconds."""
TOKENS = ("unid3", "vq-ddm", "muse", "ddcap")
"""Of the systems that draw tokens those whose bundles other tests make anyhow."""


def test_a_part_of_the_corpus_holds() -> None:
    words = [sys.executable, str(Path(__file__).parent), "--every", str(EVERY), "--tokens", *TOKENS]
    for kind in KINDS:
        if kind != "kill":
            words += ["--kind", kind]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("x2i: error: \x1b[31mred\n", "unprintable"),
        ("x2i: error: a\u202eb\n", "unprintable"),
        (f"x2i: error: {'x' * 1000}\n", "long"),
        ("x2i: error: a\n" * 25, "long"),
        ("x2i: error: [Errno 13] Permission denied\n", "raw"),
        ("x2i: error: std::bad_alloc\n", "raw"),
        ("file.py:3: RuntimeWarning: divide by zero\nx2i: error: a\n", "raw"),
        ("", "refused without a word"),
        ("something went wrong\n", "refused without a word"),
    ],
)
def test_a_bad_message_is_seen(said: str, problem: str) -> None:
    found = message_problem(said)
    assert found is not None and found.startswith(problem)


def test_a_good_message_holds() -> None:
    assert message_problem("x2i: error: steps: expected a whole number from 1 to 1000, got 0\n") is None
    assert message_problem("Usage: x2i run\n\nError: Invalid value for '--steps'\n") is None
    assert message_problem("x2i: error: a does not fit:\n" + "x2i: error:   missing b\n" * 100) is None


def test_what_is_left_behind_or_changed_is_seen(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a")
    (tmp_path / "changed").write_text("a")
    (tmp_path / "removed").write_text("a")
    before = contents(tmp_path)
    (tmp_path / "changed").write_text("ab")
    (tmp_path / "removed").unlink()
    (tmp_path / ".new").touch()
    (tmp_path / "out.png").touch()
    found = sorted(left_behind(before, contents(tmp_path), [f"{tmp_path}/out*.png"]))
    assert found == [f"changed {tmp_path}/changed", f"left behind {tmp_path}/.new", f"removed {tmp_path}/removed"]


def test_a_bad_output_is_seen(tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", np.full(3, np.nan))
    (tmp_path / "a.json").write_text('{"a": NaN}')
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    assert output_problem(tmp_path / "latents.npy") == "drew latents that are not finite"
    assert output_problem(tmp_path / "a.json") is not None
    assert output_problem(tmp_path / "none.png") is not None
    assert output_problem(tmp_path / "good.png") is None


def test_workers_that_die_or_hang_are_replaced() -> None:
    def attempt(number: int) -> str | None:
        if number == 1:
            os._exit(7)
        if number == 2:
            time.sleep(60)
        return None if number else "seen"

    found = dict(results(attempt, lambda: None, 5, 2, -9.0))
    assert found == {0: "seen", 1: "died: exit code 7", 2: "hang: not even for a signal", 3: None, 4: None}


def test_every_field_is_wrong_in_about_twenty_ways() -> None:
    base = {"steps": 2, "name": "a", "sizes": [1, 2], "inner": {"a": 1}}
    for number, path in enumerate([("steps",), ("name",), ("sizes",), ("inner",)]):
        assert len(dict(wrongs(base, path, number))) >= 20


def test_the_corpus_is_the_same_every_time() -> None:
    assert list(map(repr, drawn(NUMBERS, 50))) == list(map(repr, drawn(NUMBERS, 50)))
    assert list(map(repr, drawn(NUMBERS, 50))) != list(map(repr, drawn(NUMBERS, 50, 1)))


def test_every_system_is_tried() -> None:
    assert set(EXPORTED) <= set(SYSTEMS)


def test_every_command_that_takes_anything_is_tried() -> None:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    assert {name for name, each in commands.items() if any(not _is_flag(option) for option in each.params)} == set(
        BASES
    )


def _is_flag(option: click.Parameter) -> bool:
    return isinstance(option, click.Option) and option.is_flag


def test_what_is_known_to_fail_has_a_reason() -> None:
    for entry in KNOWN:
        assert entry.kind in KINDS and entry.reason.strip()
