"""What pyproject.toml promises, and what the wheel made from it holds."""

import configparser
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from x2i.runtime.freezing.hooks import hook_folders
from x2i.runtime.server.page.page import SCRIPTS

from tests.architecture import ARROWS, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
ROOMS = ARROWS.keys() - {"emoji"}
"""The rooms of the wheel: the reference world is a distribution of its own."""
DATA = {
    "runtime/profiling/matmul.onnx",
    "runtime/profiling/matmul_int8.onnx",
    "runtime/sessions/providers/trial_fp16.onnx",
    "runtime/sessions/providers/trial_fp32.onnx",
    "runtime/report/page.css",
    "runtime/report/page.html",
    "runtime/server/page/page.css",
    "runtime/server/page/page.html",
    *(f"runtime/server/page/{name}.js" for name in SCRIPTS),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels" / "cpu_attention" / "source").iterdir()),
}


def package_folders() -> set[str]:
    """Every folder of the rooms that holds Python files, as the package it should be."""
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    return {".".join(["x2i", *folder.parts]) for folder in folders}


def test_the_package_list_names_every_folder() -> None:
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(package_folders())


def test_every_package_says_that_it_is_one() -> None:
    bare = [
        name
        for name in package_folders()
        if not (ROOT / name.removeprefix("x2i.").replace(".", "/") / "__init__.py").exists()
    ]
    assert not bare


def second_owners(requirements: list[str]) -> list[str]:
    """The requirements that would bring another owner of the folder onnxruntime/ than onnxruntime itself.

    Execution providers that come as plug-ins (onnxruntime-ep-...) have folders of their own.
    """

    def owns(name: str) -> bool:
        return name.startswith(("onnxruntime-", "ort-")) and not name.startswith("onnxruntime-ep-")

    parsed = [Requirement(text) for text in requirements]
    return [
        str(found)
        for found in parsed
        if any(owns(name.lower().replace("_", "-")) for name in (found.name, *found.extras))
    ]


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_no_install_brings_a_second_onnxruntime(extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    assert not second_owners(wanted)


def test_a_second_onnxruntime_is_seen() -> None:
    bad = [
        "onnxruntime-gpu>=1.22",
        "onnxruntime_directml",
        "onnxruntime-silicon",
        "ort-nightly",
        "optimum[onnxruntime-gpu]",
    ]
    assert len(second_owners(bad)) == len(bad)
    assert not second_owners(["onnxruntime>=1.22", "onnxruntime-ep-nv-tensorrt-rtx", "onnx", "optimum[onnxruntime]"])


def test_the_wheel_holds_the_rooms_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    typed = {f"{room}/py.typed" for room in ROOMS}
    assert files == {f"x2i/{path}" for path in sources | typed | DATA}


def test_the_wheel_is_pure_python(wheel: Path) -> None:
    """What is compiled comes in wheels of its own, so that this one is the same on every machine."""
    assert wheel.name.endswith("-py3-none-any.whl")
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: true" in archive.read(name).decode().splitlines()
        assert not [name for name in archive.namelist() if Path(name).suffix in (".so", ".pyd", ".dylib", ".dll", ".a")]


def test_the_wheel_announces_its_commands(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        written = configparser.ConfigParser()
        written.read_string(archive.read(name).decode())
    assert dict(written["console_scripts"]) == {"x2i": "x2i.runtime.cli:main"}
    assert dict(written["x2i.commands"]) == {
        "estimate": "x2i.export.commands.estimate:estimate",
        "export": "x2i.export.commands.export:export",
        "from-optimum": "x2i.export.commands.optimum:from_optimum",
        "lower": "x2i.export.commands.lower:lower_command",
        "serve": "x2i.runtime.server.command:serve",
        "to-optimum": "x2i.export.commands.optimum:to_optimum",
        "tune": "x2i.export.commands.tune:tune_command",
    }


def test_the_wheel_tells_pyinstaller_where_its_hook_is(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        written = configparser.ConfigParser()
        written.read_string(archive.read(name).decode())
        assert "x2i/runtime/freezing/hook-x2i.runtime.py" in archive.namelist()
    assert dict(written["pyinstaller40"]) == {"hook-dirs": "x2i.runtime.freezing.hooks:hook_folders"}
    assert [path.name for path in Path(hook_folders()[0]).glob("hook-*.py")] == ["hook-x2i.runtime.py"]


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_weighs_little(wheel: Path) -> None:
    """It carries no weights, and nothing of the reference world."""
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.2f} MB")
    assert size < 1_100_000
    with ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "emoji" in name]
