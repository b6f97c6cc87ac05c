"""Fresh processes that draw a first picture: none outlives the command that started it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from x2i.runtime.profiling import cold_start
from x2i.runtime.profiling.job import ProfileJob


def test_a_stop_ends_the_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def stopped(self: subprocess.Popen[bytes], given: bytes) -> None:
        started.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(cold_start, "PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(subprocess.Popen, "communicate", stopped)
    with pytest.raises(KeyboardInterrupt):
        cold_start.cold_start(ProfileJob(Path("none"), "cpu", 1, options={}, cold=1, warm_up=0, runs=1))
    assert [child.returncode for child in started] == [-9]


def job_of(bundle: Path) -> ProfileJob:
    return ProfileJob(bundle, "cpu", 1, options={"prompt": "a", "steps": 1}, cold=1, warm_up=0, runs=1)


def test_files_of_the_working_folder_are_not_run(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "numpy", "x2i"):
        (tmp_path / f"{name}.py").write_text("open('poisoned', 'w').close()\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    cold, backend, _ = cold_start.cold_start(job_of(tiny_bundle))
    assert backend == "cpu" and cold.peak > 0
    assert not (tmp_path / "poisoned").exists()


def test_a_library_that_prints_does_not_spoil_the_answer(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\nprint('hello')\natexit.register(os.write, 1, b'goodbye')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    printed = subprocess.run([sys.executable, "-c", ""], capture_output=True, text=True, check=True).stdout
    assert "hello" in printed and "goodbye" in printed
    _, backend, _ = cold_start.cold_start(job_of(tiny_bundle))
    assert backend == "cpu"
