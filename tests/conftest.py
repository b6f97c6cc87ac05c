"""What several test files share: the wheel, and an environment that holds nothing but its base install."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from torch.onnx._internal.exporter import _registration
from x2i.runtime.sessions import onnxruntime_cpu

from tests.bundles import (
    elite_bundle,
    embedded_bundle,
    fastcomposer_bundle,
    ip_adapter_bundle,
    sound_bundle,
    tiny_bundle,
)
from tests.cpu_kernel import compiled_kernel, installed_kernel
from tests.made_once import CACHE, ROOT, changed_entries, made_once
from tests.parity import pytest_addoption, pytest_terminal_summary
from tests.processes import run

__all__ = [
    "compiled_kernel",
    "elite_bundle",
    "embedded_bundle",
    "fastcomposer_bundle",
    "installed_kernel",
    "ip_adapter_bundle",
    "pytest_addoption",
    "pytest_terminal_summary",
    "sound_bundle",
    "tiny_bundle",
]

# The same library everywhere: tests of another one name it.
os.environ.setdefault("X2I_BACKEND", "cpu")
# Nothing is left in the user's own, and nothing taken from there.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="x2i-tests-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
# No kernel is found that was compiled for the user: tests of it install their own.
os.environ["XDG_DATA_HOME"] = os.environ["XDG_CACHE_HOME"]

ROOMS = ("models", "kernels", "export", "runtime")
WHEEL_FILES = [ROOT / name for name in (*ROOMS, "pyproject.toml", "README.md", "LICENSE")]


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel, built from a copy of the tree, so that the leftovers of earlier builds cannot slip into it."""
    (built,) = made_once("wheel", build_wheel, WHEEL_FILES).iterdir()
    return built


def build_wheel(out: Path) -> None:
    tree = out.with_name("tree")
    tree.mkdir()
    for path in WHEEL_FILES:
        if path.is_dir():
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, tree)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, tree, cwd=tree, PIP_CACHE_DIR=str(CACHE / "pip"))
    shutil.rmtree(tree)


@pytest.fixture(scope="session")
def clean_venv(wheel: Path) -> Path:
    """`bin` of an environment with the wheel and its base dependencies, and nothing else; not even pip."""

    def install(home: Path) -> None:
        pip = (sys.executable, "-m", "pip", "--cache-dir", CACHE / "pip", "--python", home / "bin" / "python")
        run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
        run(*pip, "install", wheel, cwd=home)

    return made_once("clean-environment", install, WHEEL_FILES) / "bin"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """ONNX Runtime keeps to OMP_NUM_THREADS=1, which torch reads: `make test` runs two workers on two cores."""
    options = onnxruntime_cpu.session_options
    if os.environ.get("OMP_NUM_THREADS") == "1":
        onnxruntime_cpu.session_options = lambda threads=None: options(threads or 1)


@pytest.fixture(scope="session", autouse=True)
def one_table_of_operators() -> None:
    """torch makes its table of operators anew for each graph: a quarter of the time in which a small one is traced."""
    registry = _registration.ONNXRegistry
    registry.from_torchlib = staticmethod(cache(registry.from_torchlib))


@pytest.fixture(scope="module", autouse=True)
def nothing_cached_was_changed() -> Iterator[None]:
    """Fails after a test file that wrote into what other tests and other runs read as well."""
    yield
    changed = changed_entries()
    assert not changed, f"a test of this file, or of one that ran beside it, changed {', '.join(changed)}"
