"""The kernel for attention on the CPU, compiled once, and installed where a test wants it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from x2i.kernels.cpu_attention.compile import compile_library
from x2i.kernels.cpu_attention.library import LIBRARY, SOURCES, cpu_can_attend
from x2i.kernels.errors import KernelError
from x2i.runtime.attention import kernel, measured
from x2i.runtime.sessions import openvino_device

from tests.made_once import made_once


@pytest.fixture(scope="session")
def compiled_kernel() -> Path:
    """The folder of a compiled kernel; skips, with the reason, where it cannot be compiled or not be run."""
    try:
        folder = made_once("cpu-kernel", compile_library, [SOURCES])
    except KernelError as error:
        pytest.skip(str(error))
    if not cpu_can_attend(folder / LIBRARY):
        pytest.skip("this CPU lacks AVX-512 with BF16 and VNNI")
    return folder


@pytest.fixture
def installed_kernel(compiled_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As `python -m x2i.kernels.build --for cpu` leaves it, for this process and those that it starts."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "x2i").mkdir(parents=True)
    os.symlink(compiled_kernel, tmp_path / "data" / "x2i" / "cpu-kernels")
    forget()
    yield compiled_kernel
    forget()


def forget() -> None:
    """Lets this process look for the kernel once more."""
    kernel.quiet_kernel.cache_clear()
    kernel._warn.cache_clear()
    measured._RATIOS.clear()
    openvino_device._core.cache_clear()
