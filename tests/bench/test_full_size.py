"""The measuring programs start, and their child processes take no module from the folder they are started in."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from click.testing import CliRunner
from full_size.full import exported, module_command
from full_size.full_precision import _Kept
from full_size.token_step import SYSTEMS
from harness.environments import child_environment

from tests.architecture import ROOT
from tests.processes import run

PROGRAMS = ("adapter_cost", "footprint", "full", "full_precision", "full_row", "token_step")
"""Modules, each with a command of its own name."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_says_what_it_does(name):
    program = getattr(import_module(f"full_size.{name}"), name)
    assert CliRunner().invoke(program, ["--help"]).exit_code == 0


def test_every_token_system_has_the_peer_that_it_names():
    assert all(find_spec(released.peer) is not None for released in SYSTEMS.values())


def test_a_child_starts_in_a_poisoned_folder(tmp_path):
    """As its parent starts it, where files named like modules lie about."""
    for module in ("json", "numpy", "full_size"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('the folder was searched')")
    environment = {"PYTHONPATH": child_environment()["PYTHONPATH"]}
    assert run(*module_command("full_row", "--help"), cwd=tmp_path, **environment).stdout.startswith("Usage: ")


def test_a_poisoned_folder_is_seen(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('the folder was searched')")
    command = [word for word in module_command("full_row", "--help") if word != "-P"]
    said = run(*command, cwd=tmp_path, code=1, PYTHONPATH=str(ROOT / "bench")).stderr
    assert "the folder was searched" in said


def test_a_changed_exporter_makes_the_bundle_again(tmp_path, monkeypatch):
    """The defect: `make full` measured the bundle of an exporter that was no more."""
    made = []

    def export(module, command, system, bundle, variant):
        made.append((module, command, system, variant))
        os.makedirs(bundle)
        (tmp_path / f"{system}-{variant}" / "manifest.json").write_text(str(len(made)))

    monkeypatch.setattr("full_size.full.run_module", export)
    assert exported("sd", tmp_path, "tiny") == exported("sd", tmp_path, "tiny") == tmp_path / "sd-tiny"
    assert made == [("full", "export", "sd", "tiny")]
    monkeypatch.setattr("full_size.full.source_digest", lambda settings: "another")
    exported("sd", tmp_path, "tiny")
    assert len(made) == 2


def test_measurements_of_another_exporter_are_left_out(tmp_path):
    path = tmp_path / "precision-tiny.json"
    _Kept(path, "first")("step", lambda: {"seconds": 1})
    assert _Kept(path, "first").facts["step"] == {"seconds": 1}
    assert "step" not in _Kept(path, "second").facts


def test_the_footprint_installs_this_repository():
    from full_size.footprint import ROOT as installed
    from full_size.footprint import SOURCES

    assert installed == ROOT and all((installed / name).exists() for name in SOURCES)
    assert sys.executable == module_command("full")[0]
