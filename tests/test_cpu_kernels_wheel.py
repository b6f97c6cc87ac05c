"""The wheel of the compiled kernel: what it holds, and that x2i finds it where both are installed."""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from x2i.kernels.cpu_attention.library import LIBRARY, PACKAGE, RECORD, library_source_digest, openvino_release

from tests.made_once import ROOT, made_once
from tests.processes import run

PROJECT = ROOT / "cpu-kernels"
EXTRA = "cpu-kernels"


@pytest.fixture(scope="module")
def kernels_wheel() -> Path:
    """Built as `make cpu-kernels` does; skips, with the reason, where it cannot be compiled."""
    for tool in ("hatchling", "auditwheel"):
        pytest.importorskip(tool, reason=f"{tool} is not installed; pip install -e '.[test]'")

    def build(out: Path) -> None:
        command = [sys.executable, str(PROJECT / "build_wheel.py"), str(out)]
        done = subprocess.run(command, env=os.environ | {"PYTHONSAFEPATH": "1"}, capture_output=True, text=True)
        said = done.stdout + done.stderr
        if refused := [line for line in said.splitlines() if line.startswith("x2i: error: ")]:
            pytest.skip(refused[0].removeprefix("x2i: error: "))
        assert done.returncode == 0, said

    reads = [path for path in PROJECT.rglob("*") if path.suffix in (".py", ".toml")]
    (built,) = made_once("cpu-kernels-wheel", build, [*reads, ROOT / "pyproject.toml"]).iterdir()
    return built


@pytest.fixture(scope="module")
def kernels_venv(kernels_wheel: Path, wheel: Path) -> Path:
    """`bin` of an environment with both wheels, and what they need from the environment of the tests."""

    def install(home: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
        pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--no-deps", "--no-index")
        run(*pip, wheel, kernels_wheel, cwd=home)
        (packages,) = home.glob("lib/python*/site-packages")
        # A path alone: the editable install that a .pth file there brings is not followed.
        paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path])
        found = [path for path in paths if path.endswith("site-packages")]
        (packages / "of_the_tests.pth").write_text("\n".join(found) + "\n", encoding="utf-8")

    return made_once("cpu-kernels-environment", install, [kernels_wheel, wheel]) / "bin"


def test_it_holds_the_kernel_and_nothing_else(kernels_wheel: Path) -> None:
    with ZipFile(kernels_wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name and name[-1] != "/"}
        assert files == {f"{PACKAGE}/{name}" for name in ("__init__.py", LIBRARY, RECORD)}
        record, library = (archive.read(f"{PACKAGE}/{name}") for name in (RECORD, LIBRARY))
    assert json.loads(record) == {
        "source": library_source_digest(),
        "openvino": openvino_release(),
        "machine": "x86_64",
        "sha256": hashlib.sha256(library).hexdigest(),
    }


def test_it_is_for_one_openvino_and_many_systems(kernels_wheel: Path) -> None:
    with ZipFile(kernels_wheel) as archive:
        metadata, wheel = (
            message_from_bytes(archive.read(name))
            for end in ("METADATA", "WHEEL")
            for name in archive.namelist()
            if name.endswith(f".dist-info/{end}")
        )
    assert metadata.get_all("Requires-Dist") == [f"openvino=={openvino_release()}"]
    assert wheel["Root-Is-Purelib"] == "false"
    python, abi, platform = wheel["Tag"].split("-")
    assert (python, abi) == ("py3", "none") and platform.startswith("manylinux_") and platform.endswith("_x86_64")


def test_the_extra_asks_for_this_versions_kernel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(text) for text in project["optional-dependencies"][EXTRA]]
    (kernels,) = (one for one in asked if one.name == "x2i-edge-cpu-kernels")
    assert kernels.specifier == SpecifierSet(f"=={project['version']}.*")
    assert f"{project['version']}.{openvino_release()}" in kernels.specifier
    assert kernels.marker is not None
    for system, machine, expected in (
        ("linux", "x86_64", True),
        ("linux", "aarch64", False),
        ("win32", "x86_64", False),
    ):
        assert kernels.marker.evaluate({"sys_platform": system, "platform_machine": machine}) == expected


def test_x2i_finds_it(kernels_venv: Path, compiled_kernel: Path, tmp_path: Path) -> None:
    """And opens what the wheel brought, not what these tests have compiled."""
    code = "from x2i.kernels.cpu_attention.openvino_op import open_kernel; print(open_kernel().extension)"
    told = run(kernels_venv / "python", "-c", code, cwd=tmp_path).stdout.strip()
    assert Path(told).is_relative_to(kernels_venv.parent) and Path(told).parent.name == PACKAGE


def test_a_picture_is_drawn_with_it(
    kernels_venv: Path, compiled_kernel: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    words = ("run", tiny_bundle, "x", "--language", "French", "--steps", "2", "--size", "24x16", "--seed", "3")
    drawn = {}
    for attention in ("library", "int8"):
        named = ("--backend", "openvino", "--attention", attention, "--save-latents", f"{attention}.npy")
        done = run(kernels_venv / "x2i", *words, *named, "--out", f"{attention}.png", cwd=tmp_path)
        assert "attention:" not in done.stderr
        drawn[attention] = (tmp_path / f"{attention}.npy").read_bytes()
    assert drawn["library"] != drawn["int8"]


def test_the_environment_of_the_tests_has_none() -> None:
    """What is installed here would run in every other test."""
    code = f"from importlib.util import find_spec; print(find_spec({PACKAGE!r}))"
    assert run(sys.executable, "-c", code, cwd=ROOT / "tests", PYTHONSAFEPATH="1").stdout.strip() == "None"
