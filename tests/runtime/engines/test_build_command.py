"""`x2i build`: engines for real with TensorRT-RTX, which needs no GPU for that; refusals; and what a stop leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from x2i.export.precision import weight_only
from x2i.runtime import machine
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.commands.build import build
from x2i.runtime.engines import builder, store
from x2i.runtime.engines.build_request import BuildRequest
from x2i.runtime.engines.estimates import past_builds
from x2i.runtime.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(build, [str(word) for word in words])


def engines(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "engines").iterdir())


def test_an_engine_is_built_remembered_and_not_built_again(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    words = (bundle, "--for", "rtx", "--graph", "projection", "--count", "3", "--target", "sm_89", "--target", "sm_120")
    first = call(*words)
    assert first.exit_code == 0, first.output
    assert "no estimate before the first build" in first.stdout
    name = next(file for file in engines(bundle) if file.endswith(".engine"))
    record = store.read_record((bundle / "engines" / name).with_suffix(".json"))
    assert engines(bundle) == [name, name.replace(".engine", ".json")]
    assert record.key.shapes == {"batch": (1, 2, 2), "tokens": (77, 77, 231)}
    assert (record.key.device, record.key.digest) == (
        "sm_89 sm_120",
        open_bundle(bundle).graph_file("projection").digest,
    )
    assert record.peak_bytes > 50_000_000
    (remembered,) = past_builds()
    assert (remembered.graph, remembered.library) == ("projection", "tensorrt_rtx")
    again = call(*words, "--json")
    assert json.loads(again.stdout)["projection"] | {"there": True} == json.loads(again.stdout)["projection"]
    assert open_bundle(bundle).manifest, "a bundle with engines still opens"


def test_openvino_builds_in_the_same_way(bundle: Path) -> None:
    pytest.importorskip("openvino")
    words = (bundle, "--for", "openvino", "--graph", "projection")
    first, again = call(*words), call(*words)
    assert first.exit_code == again.exit_code == 0, first.output + again.output
    assert len(engines(bundle)) == 2 and engines(bundle)[0] in again.stdout and "is there" in again.stdout


def test_onnx_runtime_needs_no_engine(bundle: Path) -> None:
    result = call(bundle, "--for", "cuda")
    assert result.exit_code == 0 and "nothing to build" in result.stdout and not (bundle / "engines").exists()
    assert json.loads(call(bundle, "--for", "cuda", "--json").stdout) == {}
    refused = call(bundle, "--for", "cuda", "--size", "64x64")
    assert refused.exit_code == 2 and "nothing is built" in refused.stderr


def test_what_is_there_takes_no_room(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (bundle, "--for", "cpu", "--graph", "projection", "--graph", "decoder")
    assert call(*words).exit_code == 0
    monkeypatch.setattr(machine, "available_memory", lambda: 50_000_000)
    again = call(*words)
    assert again.exit_code == 0 and again.stdout.count("is there") == 2, again.output
    assert call(bundle, "--for", "cpu").exit_code == 2


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["--for", "metal"], ["--for: expected one of cpu, openvino, rtx, tensorrt, cuda"]),
        (["--for", "rtx", "--graph", "nobody"], ["--graph: expected one of encoder"]),
        (["--for", "rtx", "--target", "sm_90"], ["--target: TensorRT-RTX builds for sm_75, sm_80, sm_86"]),
        (["--for", "rtx:1"], ["--for: expected a device behind openvino alone"]),
        (["--for", "rtx", "--size", "65x64"], ["size: expected (height, width) in multiples of 8"]),
        (["--for", "rtx", "--kernels", "nowhere"], ["--kernels nowhere: expected compiled kernels"]),
        (
            ["--for", "openvino:GPU", "--target", "sm_89", "--size", "64x64", "--kernels", "nowhere"],
            ["--target: TensorRT-RTX alone", "--size: OpenVINO's engines", "--kernels: OpenVINO's engines"],
        ),
    ],
)
def test_what_cannot_be_built_is_refused(tiny_bundle: Path, words: list[str], problems: list[str]) -> None:
    result = call(tiny_bundle, *words)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(problems), lines
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"x2i: error: {problem}"), line
    assert not (tiny_bundle / "engines").exists()


def test_too_little_memory_is_refused_before_anything_starts(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 100_000_000)
    result = call(bundle, "--for", "rtx")
    assert result.exit_code == 2 and "of memory, 0.1 GB are free" in result.stderr
    assert not (bundle / "engines").exists()


def test_a_graph_that_the_library_cannot_read(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    (job,) = BuildRequest("rtx", graphs=("projection",)).jobs(open_bundle(bundle))
    Path(job.path).write_bytes(b"no graph")
    with pytest.raises(InputError, match="cannot read this graph") as refused:
        builder.build_engine(job, bundle / "engines", lambda seconds: None)
    assert len(refused.value.problems) == 1 and not (bundle / "engines").exists()


@pytest.mark.parametrize("bits", [8, 4])
def test_tables_of_integers_are_refused_with_the_fix_and_without_them_it_builds(bundle: Path, bits: int) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    (job,) = BuildRequest("rtx", graphs=("encoder",)).jobs(open_bundle(bundle))
    lowered = bundle / "lowered.onnx"
    job = replace(job, path=str(lowered), precision=f"int{bits}-weights")
    weight_only.to_weight_only(bundle / "encoder.onnx", lowered, bits, smallest=1)
    with pytest.raises(InputError, match=r"lower it again with --keep encoder:model\.embeddings,"):
        builder.build_engine(job, bundle / "engines", lambda seconds: None)
    weight_only.to_weight_only(bundle / "encoder.onnx", lowered, bits, keep_fp32=("model.embeddings",), smallest=1)
    assert not builder.build_engine(job, bundle / "engines", lambda seconds: None).cached


def test_a_process_that_dies_is_told_in_one_line(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    (job,) = BuildRequest("rtx", graphs=("projection",)).jobs(open_bundle(bundle))
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")

    def kill(seconds: float) -> None:
        for child in children.read_text().split():
            if b"engines.builder" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)

    with pytest.raises(InputError, match="for want of memory"):
        builder.build_engine(job, bundle / "engines", kill)
    assert not (bundle / "engines").exists()


def _hear_ctrl_c() -> None:
    """A shell's background jobs ignore it, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing(bundle: Path, number: int) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    words = ("build", str(bundle), "--for", "rtx", "--graph", "denoiser")
    command = (sys.executable, "-c", "from x2i.runtime.cli import main; main()", *words)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c
    )
    while not list(bundle.glob("engines/.building.*/complaints")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip() == "x2i: stopped; 0 of 1 engines are done and stay"
    assert not (bundle / "engines").exists()
