"""What is known of the machine before a build: memory, disk, GPUs, and how long builds take here."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
from x2i.runtime import machine
from x2i.runtime.engines import gpu
from x2i.runtime.engines.estimates import (
    PastBuild,
    check_room,
    history_file,
    likely_seconds,
    needed_memory,
    past_builds,
    remember_build,
)
from x2i.runtime.errors import InputError
from x2i.runtime.machine import available_memory, package_versions, peak_memory

GB = 10**9


def lay_down(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_builds_are_remembered_and_the_latest_kept(tmp_path: Path) -> None:
    file = tmp_path / "x2i" / "builds.json"
    assert past_builds(file) == ()
    for number in range(205):
        remember_build(PastBuild("tensorrt_rtx", f"graph{number}", "fp16", 10, 1.0, 0), file)
    assert [build.graph for build in past_builds(file)] == [f"graph{number}" for number in range(5, 205)]
    file.write_text("{")
    assert past_builds(file) == ()


def test_the_history_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "x2i" / "builds.json"


def test_an_estimate_comes_from_the_build_that_is_most_like_it() -> None:
    past = (
        PastBuild("tensorrt_rtx", "denoiser", "fp16", 1_000, 50.0, 0),
        PastBuild("tensorrt_rtx", "encoder", "fp32", 100, 3.0, 0),
        PastBuild("openvino", "decoder", "fp32", 100, 9.0, 0),
    )
    assert likely_seconds("tensorrt", "denoiser", "fp16", 1_000, past) is None
    assert likely_seconds("tensorrt_rtx", "denoiser", "fp32", 4_000, past) == pytest.approx(100.0)
    assert likely_seconds("tensorrt_rtx", "decoder", "fp32", 400, past) == pytest.approx(6.0)
    again = (*past, PastBuild("tensorrt_rtx", "denoiser", "fp16", 1_000, 40.0, 0))
    assert likely_seconds("tensorrt_rtx", "denoiser", "fp16", 1_000, again) == pytest.approx(40.0)


def test_memory_is_what_it_took_last_time_or_an_estimate() -> None:
    past = (PastBuild("tensorrt_rtx", "denoiser", "fp16", 1_720_000_000, 57.0, 5_850_000_000),)
    assert needed_memory("tensorrt_rtx", 1_720_000_000, past) == 5_850_000_000
    assert needed_memory("tensorrt_rtx", 1_720_000_000, ()) >= 5_850_000_000
    assert needed_memory("openvino", 1_720_000_000, past) >= 5_850_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="getrusage's own meaning elsewhere")
def test_the_peak_is_the_processs_own() -> None:
    held = np.ones(200_000_000, np.uint8)
    program = "from x2i.runtime.machine import peak_memory; print(peak_memory())"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert peak_memory() > len(held) > 1.5 * int(made.stdout)


@pytest.fixture
def eight_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=9_000_000, available=8_000_000))


@pytest.mark.usefixtures("eight_megabytes")
def test_memory_is_the_systems_or_what_a_container_has_left(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    assert available_memory(proc, groups) == 8_000_000
    lay_down(proc, self__cgroup="0::/box/inner\n")
    assert available_memory(proc, groups) == 8_000_000
    lay_down(groups, box__memory_dot_max="5000000", box__memory_dot_current="4000000")
    lay_down(groups, box__inner__memory_dot_max="max", box__inner__memory_dot_current="100")
    assert available_memory(proc, groups) == 1_000_000
    lay_down(groups, box__memory_dot_stat="anon 10\ninactive_file 500000\n")
    assert available_memory(proc, groups) == 1_500_000


@pytest.mark.usefixtures("eight_megabytes")
def test_memory_under_control_groups_of_the_first_version(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    lay_down(proc, self__cgroup="4:cpu:/box\n3:memory:/box\n")
    lay_down(groups, memory__box__memory_dot_limit_in_bytes="3000000", memory__box__memory_dot_usage_in_bytes="2999999")
    assert available_memory(proc, groups) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own words")
def test_memory_is_what_linux_says() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    told = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    assert machine.total_memory() == told["MemTotal"]
    free = available_memory(cgroups=Path("/nowhere"))
    assert free is not None and abs(free - told["MemAvailable"]) < GB


def test_a_system_that_tells_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    assert available_memory() is None and machine.total_memory() is None


@pytest.mark.parametrize("fails", ["nothing", "an emptied folder"])
def test_versions_of_packages(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `pip install onnxruntime-gpu` no distribution is called onnxruntime."""
    real = machine.version

    def renamed(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(machine, "version", renamed)
    names = ("numpy", "onnxruntime", "no-such-package")
    expected = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
    assert package_versions(names) == expected
    assert machine.versions(names).endswith(f", numpy {np.__version__}, onnxruntime {onnxruntime.__version__}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None if fails == "nothing" else ModuleType("onnxruntime"))
    assert machine.package_version("onnxruntime") is None


def test_too_little_of_both_is_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 2 * GB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * GB, 8 * GB, GB))
    check_room(2 * GB, GB, tmp_path / "engines")
    with pytest.raises(InputError) as refused:
        check_room(6 * GB, 3 * GB, tmp_path / "engines")
    first, second = refused.value.problems
    assert "about 6.0 GB of memory, 2.0 GB are free" in first and "about 3.0 GB of disk" in second


class FakeDriver:
    """The driver's library as ctypes calls it."""

    def __init__(self, status: int = 0, gpus: int = 1):
        self.status, self.gpus = status, gpus

    def __getattr__(self, call: str) -> Callable[..., int]:
        answers = {"cuDriverGetVersion": 13_020, "cuDeviceGetCount": self.gpus, "cuDeviceGet": 7}

        def answer(*arguments: Any) -> int:
            if call == "cuDeviceGetName":
                arguments[0].value = b"GeForce RTX 4090"
            elif call == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 9}[arguments[1]]
            elif call == "cuDeviceTotalMem_v2":
                arguments[0]._obj.value = 24 * GB
            elif call in answers:
                arguments[0]._obj.value = answers[call]
            return self.status

        return answer


@pytest.fixture
def anew() -> Iterator[None]:
    gpu.driver.cache_clear()
    yield
    gpu.driver.cache_clear()


@pytest.mark.usefixtures("anew")
def test_gpus_are_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    assert gpu.driver() == gpu.Driver((13, 2), (gpu.Gpu("GeForce RTX 4090", (8, 9), 24 * GB),))
    assert gpu.first_gpu().target == "sm_89" and gpu.gpu_problem() is None


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("library", "problem"),
    [
        (FakeDriver(status=100), "cuInit gave 100"),
        (FakeDriver(gpus=0), "shows no GPU"),
        (None, "no NVIDIA driver"),
    ],
)
def test_why_no_gpu_can_be_used(library: FakeDriver | None, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> FakeDriver:
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert problem in (gpu.gpu_problem() or "")
