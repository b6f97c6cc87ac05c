"""Fresh processes that draw a first picture: none outlives the command that started it."""

import subprocess
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
