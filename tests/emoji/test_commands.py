"""`python -m x2i.emoji STAGE` and the judges' commands: every name leads somewhere."""

import inspect
import sys
from importlib import import_module
from importlib.util import find_spec

import click
import pytest
from click.testing import CliRunner
from x2i.emoji.__main__ import STAGES

from tests.architecture import ROOT
from tests.processes import run

COMMANDS = {
    "demo": "demo",
    "judges.few_steps": "judge_few_steps",
    "judges.languages": "judge",
    "judges.painted": "judge_paint",
    "judges.pairs": "judge_pairs",
    "judges.precision": "judge_precision",
    "judges.sounds": "judge_sounds",
    "judges.subjects": "judge_subjects",
    "judges.tokens": "judge_tokens",
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_a_function_of_a_folder_and_minutes(stage):
    place, minutes = STAGES[stage]
    module, _, name = place.partition(":")
    function = getattr(import_module(f"x2i.emoji.{module}"), name)
    assert list(inspect.signature(function).parameters)[:2] == ["folder", "minutes"] and minutes >= 0


def test_the_command_lists_its_stages(tmp_path):
    listed = run(sys.executable, "-P", "-m", "x2i.emoji", "--help", cwd=tmp_path).stdout
    assert all(stage in listed for stage in STAGES)


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_says_what_it_does(module):
    loaded = import_module(f"x2i.emoji.{module}")
    command = getattr(loaded, COMMANDS[module])
    assert isinstance(command, click.Command)
    assert loaded.__doc__.startswith(f"`python -m x2i.emoji.{module}`: ")
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0


def test_make_names_commands_that_are_there():
    """`python -m NAME` in the Makefile and in what the rooms say of themselves."""
    texts = [ROOT / "Makefile", *(ROOT / "emoji").rglob("*.py"), *(ROOT / "bench" / "full_size").glob("*.py")]
    words = [line.split("python -m ")[1:] for path in texts for line in path.read_text("utf-8").splitlines()]
    names = {part.split()[0].strip("`:,;'\")") for parts in words for part in parts}
    named = {name for name in names if name.startswith(("x2i", "full_size"))}
    assert len(named) > 8 and not [name for name in named if find_spec(name) is None]
