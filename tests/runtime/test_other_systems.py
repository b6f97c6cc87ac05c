"""The runtime without what Linux alone has, on a disk that takes upper for lower case."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from x2i.export.errors import PlanError
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.runtime.bundle.manifest import alike_but_for_case
from x2i.runtime.files.staging import staging_folder

from tests.made_once import ROOT
from tests.runtime import other_system

PROMPT = ("red", "--language", "French", "--seed", "3", "--backend", "cpu")


def on_another_system(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", other_system.__file__, *arguments]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def test_draws_the_same_bytes(tiny_bundle: Path, tmp_path: Path) -> None:
    words = ("run", str(tiny_bundle), *PROMPT, "--out")
    plain = [sys.executable, "-P", "-c", "from x2i.runtime.cli import main; main()", *words, "plain.png"]
    subprocess.run(plain, cwd=tmp_path, check=True, capture_output=True)
    other = on_another_system(*words, "other.png", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["other.png", "plain.png"]


@pytest.mark.parametrize("arguments", [("doctor",), ("inspect", "BUNDLE")])
def test_tells(tiny_bundle: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    words = [str(tiny_bundle) if word == "BUNDLE" else word for word in arguments]
    told = on_another_system(*words, cwd=tmp_path)
    assert told.returncode == 0, told.stderr


ONE_FILE = """
from tests.runtime.other_system import become_another_system
become_another_system()
from pathlib import Path
from x2i.runtime.files.writing import check_targets
check_targets([Path("one.png"), Path("ONE.PNG")])
"""


def test_outputs_that_are_one_file_there_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "Pictures"
    folder.mkdir()
    words = [sys.executable, "-P", "-c", ONE_FILE]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    checked = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert "ONE.PNG: expected a file of its own for each output, got the same twice" in checked.stderr
    assert os.listdir(folder) == []


def test_names_that_differ_by_case_alone_are_refused() -> None:
    assert alike_but_for_case(["a.English", "b", "A.english"]) == [["a.English", "A.english"]]
    parts = {f"translator:{name}": Path("x") for name in ("French", "french")}
    with pytest.raises(PlanError, match="--part translator:French and translator:french: expected names that differ"):
        system_spec("gluegen-text").check(ExportPlan("gluegen-text", Path("out"), parts=parts))


def test_compiling_for_a_processor_that_is_not_told_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    refused = on_another_system("build", str(copy), "--for", "cpu", cwd=tmp_path)
    assert refused.returncode == 2
    assert "which tells what the CPU can do" in refused.stderr


def test_what_dead_workers_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be locked, the process id tells; a living worker's stays."""
    monkeypatch.setattr("x2i.runtime.files.staging.fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, own = tmp_path / f".a.abc.x2i-{dead.pid}", tmp_path / f".b.abc.x2i-{os.getpid()}"
    left.mkdir()
    own.mkdir()
    with staging_folder(tmp_path, "new") as folder:
        assert folder.is_dir() and own.is_dir() and not left.exists()
    assert not folder.exists()
