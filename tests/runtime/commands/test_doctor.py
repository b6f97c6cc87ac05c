"""`x2i doctor` names what is wrong with an installation, and only that."""

import json
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from x2i.export.commands.export import export
from x2i.runtime.commands import doctor as doctor_module
from x2i.runtime.commands import trial
from x2i.runtime.commands.doctor import doctor
from x2i.runtime.engines.gpu import Driver, Gpu
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import tensorrt_session
from x2i.runtime.sessions.backends import BACKENDS
from x2i.runtime.sessions.providers import owners
from x2i.runtime.sessions.session import GraphFile, Session


def examine(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, arguments)


def pretend_installed(folder: Path, name: str, version: str) -> None:
    """Lays down the metadata that pip leaves of a distribution that owns onnxruntime/__init__.py."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "RECORD").write_text(
        f"onnxruntime/__init__.py,,\n{metadata.name}/METADATA,,\n{metadata.name}/RECORD,,\n"
    )


def test_a_sound_installation() -> None:
    result = examine()
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith("no problems found")
    assert "CPUExecutionProvider" in result.stdout and "backend cpu: ready" in result.stdout
    assert "telemetry of onnxruntime: off (ORT_DISABLE_TELEMETRY=1)" in result.stdout


def test_json_holds_the_same_facts() -> None:
    facts = json.loads(examine("--json").stdout)
    assert facts["problems"] == []
    assert {"x2i-edge", "numpy", "onnxruntime"} <= set(facts["packages"])


def test_every_backend_is_ready_or_names_what_it_lacks() -> None:
    facts, lines = json.loads(examine("--json").stdout), examine().stdout.splitlines()
    assert list(facts["backends"]) == list(BACKENDS) and facts["backends"]["cpu"] == "ready"
    for name, state in facts["backends"].items():
        assert f"backend {name}: {state}" in lines
        assert state == "ready" or any(fix in state for fix in ("pip install", "install the driver", "nvidia-smi"))


def test_what_a_gpu_is_and_that_its_backend_lacks_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Driver((13, 2), (Gpu("GeForce RTX 4090", (8, 9), 24 * 10**9),))
    monkeypatch.setattr(doctor_module, "driver", lambda: there)
    monkeypatch.setattr(tensorrt_session, "find_spec", lambda name: None)
    facts = json.loads(examine("--json").stdout)
    assert facts["gpus"] == ["GeForce RTX 4090, sm_89, 24.0 GB, driver for CUDA 13.2"]
    assert facts["backends"]["rtx"] == "needs tensorrt-rtx and cuda-bindings; pip install 'x2i-edge[rtx]'"


@pytest.mark.parametrize("twin", ["onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"])
def test_a_double_install_is_named(twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, "onnxruntime", "1.99.0")
    pretend_installed(tmp_path, twin, "1.98.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = examine()
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: error: ")
    assert f"onnxruntime 1.99.0 and {twin} 1.98.1" in line and str(tmp_path / "onnxruntime") in line
    assert f"pip uninstall -y onnxruntime {twin} && pip install onnxruntime" in line


def test_a_double_install_reaches_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, "onnxruntime", "1.99.0")
    pretend_installed(tmp_path, "onnxruntime-gpu", "1.99.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = examine("--json")
    assert result.exit_code == 2 and len(json.loads(result.stdout)["problems"]) == 1


def test_two_folders_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's and a system's copy in different places shadow each other but stay whole."""
    pretend_installed(tmp_path / "one", "onnxruntime", "1.99.0")
    pretend_installed(tmp_path / "two", "onnxruntime-gpu", "1.99.0")
    for folder in ("one", "two", "one"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert examine().exit_code == 0


def test_one_folder_on_the_path_twice_is_one_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path / "real", "onnxruntime", "1.99.0")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for folder in ("real", "link"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert examine().exit_code == 0


@pytest.mark.parametrize("remains", ["nothing", "an emptied folder"])
def test_an_onnxruntime_that_does_not_import(remains: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left = None if remains == "nothing" else ModuleType("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", left)
    result = examine()
    assert result.exit_code == 2
    assert "pip install --force-reinstall --no-deps onnxruntime" in result.stderr
    assert "backend cpu: needs an onnxruntime that works" in result.stdout


def test_every_backend_that_is_ready_computes() -> None:
    facts, lines = json.loads(examine("--json").stdout), examine().stdout.splitlines()
    assert {*facts["ran"]} >= {name for name, state in facts["backends"].items() if state == "ready"}
    for name, said in facts["ran"].items():
        assert f"ran on {name}: {said}" in lines
    assert re.fullmatch(r"a small graph, error \d\.\de-0[5-9]; in float16 \d\.\de-0\d", facts["ran"]["cpu"])


def test_a_plugin_is_tried_and_says_where_it_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "plugin_names", lambda: ["CPU", "azure", "wing"])
    ran = json.loads(examine("--json").stdout)["ran"]
    assert ran["ep:CPU"].startswith("a small graph all on CPUExecutionProvider, error ")
    assert "5 nodes that AzureExecutionProvider does not take" in ran["ep:azure"]
    assert ran["ep:wing"].startswith("not the small graph: backend ep: no execution provider 'wing' is here")


def test_a_backend_that_computes_wrongly_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "trial_error", lambda outputs: float("nan"))
    result = examine()
    assert result.exit_code == 2 and "x2i: error: backend cpu: a small graph, error nan, where 1e-04" in result.stderr


def test_a_backend_without_float16_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trial.open_session

    def opened(backend: str, graph: GraphFile) -> Session:
        if graph.precision == "fp16":
            raise InputError("no float16 here")
        return whole(backend, graph)

    monkeypatch.setattr(trial, "open_session", opened)
    result = examine("--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["ran"]["cpu"].endswith("; no float16")


def test_two_owners_are_refused_before_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path / "site", "onnxruntime", "1.99.0")
    pretend_installed(tmp_path / "site", "onnxruntime-gpu", "1.98.1")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    result = CliRunner().invoke(export, ["sd", str(tmp_path / "out"), "--random-weights", "sd15"])
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    (line,) = result.stderr.splitlines()
    assert "onnxruntime 1.99.0 and onnxruntime-gpu 1.98.1 share the folder" in line


@pytest.mark.parametrize("owner", ["onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu"])
def test_one_owner_of_any_name_serves(owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, owner, "1.99.0")
    found = list(distributions(path=[str(tmp_path)]))
    monkeypatch.setattr(owners, "distributions", lambda: found)
    assert not list(owners.double_installs())
    owners.check_one_owner()
