"""What several test files share: the wheel, and an environment that holds nothing but its base install."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.bundles import (
    elite_bundle,
    embedded_bundle,
    fastcomposer_bundle,
    ip_adapter_bundle,
    sound_bundle,
    tiny_bundle,
)
from tests.made_once import made_once
from tests.parity import pytest_addoption, pytest_terminal_summary
from tests.processes import run

__all__ = [
    "elite_bundle",
    "embedded_bundle",
    "fastcomposer_bundle",
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

ROOT = Path(__file__).parents[1]
SOURCES = ("models", "kernels", "export", "runtime", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree, so that the leftovers of earlier builds cannot slip into it."""
    (built,) = made_once(tmp_path_factory, "wheel", build_wheel).iterdir()
    return built


def build_wheel(out: Path) -> None:
    tree = out.with_name("tree")
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, tree, cwd=tree)


@pytest.fixture(scope="session")
def clean_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel and its base dependencies, and nothing else; not even pip."""
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", wheel, cwd=home)
    return home / "bin"
