"""The wheel in a clean environment: small, torch-free, and its command works."""

import sys
from pathlib import Path

import pytest

from tests.processes import imported, run

ABSENT = ("torch", "transformers", "diffusers", "onnx", "onnxscript", "safetensors")


@pytest.mark.parametrize("name", ABSENT)
def test_the_base_install_leaves_out(name: str, clean_venv: Path, tmp_path: Path) -> None:
    code = f"from importlib.util import find_spec; print(find_spec({name!r}))"
    assert run(clean_venv / "python", "-c", code, cwd=tmp_path).stdout.strip() == "None"


def test_it_installs_no_room_at_top_level(clean_venv: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec; print(*(find_spec(n) for n in 'models kernels export runtime'.split()))"
    )
    assert run(clean_venv / "python", "-c", code, cwd=tmp_path).stdout.split() == ["None"] * 4


def test_importing_the_runtime_loads_no_session_library(clean_venv: Path, tmp_path: Path) -> None:
    trace = run(clean_venv / "python", "-X", "importtime", "-c", "import x2i.runtime", cwd=tmp_path).stderr
    modules = imported(trace)
    assert "x2i.runtime.load" in modules and "numpy" in modules
    assert not modules & {"onnxruntime", "huggingface_hub", *ABSENT}


def test_help_lists_every_command(clean_venv: Path, tmp_path: Path) -> None:
    listed = run(clean_venv / "x2i", "--help", cwd=tmp_path).stdout
    assert all(f"\n  {name} " in listed for name in ("doctor", "export", "inspect", "run", "verify"))


def test_doctor_finds_no_problem(clean_venv: Path, tmp_path: Path) -> None:
    assert run(clean_venv / "x2i", "doctor", cwd=tmp_path).stdout.rstrip().endswith("no problems found")


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_folder_that_is_no_bundle(command: str, clean_venv: Path, tmp_path: Path) -> None:
    (line,) = run(clean_venv / "x2i", command, tmp_path, cwd=tmp_path, code=2).stderr.splitlines()
    assert line.startswith("x2i: error: ") and str(tmp_path) in line


def test_export_says_what_to_install(clean_venv: Path, tmp_path: Path) -> None:
    process = run(clean_venv / "x2i", "export", "sd", "out", "--base", "model", cwd=tmp_path, code=2)
    (line,) = process.stderr.splitlines()
    assert line.startswith("x2i: error: ") and line.endswith("pip install 'x2i-edge[export]'")
    assert not list(tmp_path.iterdir())


def test_the_installed_package_type_checks(clean_venv: Path, tmp_path: Path) -> None:
    """As its users' checkers see it: through py.typed, without the project's own settings."""
    settings = tmp_path / "mypy.ini"
    sessions = "psutil.*,tqdm.*,cuda.*,onnxruntime.*,openvino.*,soundfile.*,soxr.*,tensorrt.*,tensorrt_rtx.*"
    servers = "fastapi.*,h11.*,opentelemetry.*,prometheus_client.*,pydantic.*,ray.*,starlette.*,uvicorn.*"
    settings.write_text(f"[mypy]\n[mypy-{sessions},{servers}]\nignore_missing_imports = true\n")
    arguments = ("-p", "x2i.runtime", "--python-executable", clean_venv / "python", "--config-file", settings)
    run(sys.executable, "-m", "mypy", *arguments, "--cache-dir", tmp_path / "cache", cwd=tmp_path)


def test_the_type_check_reads_the_installed_package(clean_venv: Path, tmp_path: Path) -> None:
    """A user's mistake against the public surface is seen, so the types did travel with the wheel."""
    (tmp_path / "user.py").write_text("from x2i.runtime import load\nload(1, threads='many')\n")
    arguments = ("user.py", "--python-executable", clean_venv / "python", "--cache-dir", tmp_path / "cache")
    said = run(sys.executable, "-m", "mypy", *arguments, cwd=tmp_path, code=1).stdout
    assert said.count("[arg-type]") == 2, said
