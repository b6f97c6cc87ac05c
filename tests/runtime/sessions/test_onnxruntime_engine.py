"""Engines of ONNX Runtime: the graph's very numbers, weights that stay on the disk, and never another machine's."""

import contextlib
import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime import machine
from x2i.runtime.engines import builder, store
from x2i.runtime.engines.build_request import BuildJob, BuildRequest
from x2i.runtime.errors import EngineWarning, InputError
from x2i.runtime.sessions import onnxruntime_cpu
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Settings

from tests.numerics import assert_close
from tests.processes import run
from tests.runtime.toy import write_toy

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="engines for a CPU need Linux")
WIDTH = 96


@pytest.fixture
def graph(tmp_path: Path) -> GraphFile:
    """A convolution and a product, of any batch and size."""
    draw = np.random.default_rng(0)
    weights = {
        "kernel": draw.standard_normal((WIDTH, 3, 3, 3)),
        "matrix": draw.standard_normal((WIDTH, 640)),
        "shift": draw.standard_normal(640),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], ["layers"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["layers"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "shift"], ["feature"]),
    ]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, "h", "w"])
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["batch", 640])
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "some", [picture], [feature], tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(made, tmp_path / "some.onnx")
    return GraphFile("some", tmp_path / "some.onnx", "fp32", "ab" * 32, tmp_path / "bundle" / "engines")


def pictures(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {"picture": np.random.default_rng(1).standard_normal((batch, 3, height, width)).astype(np.float32)}


def test_an_engine_that_does_not_fit_is_told(graph: GraphFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_session("cpu", graph)
        engine = onnxruntime_cpu.build_onnxruntime_engine(graph)
        open_session("cpu", graph)
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.warns(EngineWarning, match="some: opened without an engine, since none fits: .* cut short") as told:
        open_session("cpu", graph)
    assert len(told) == 1 and str(told[0].message).endswith("; x2i build BUNDLE --for cpu")


def test_an_engine_gives_the_same_numbers_without_the_graph(graph: GraphFile, tmp_path: Path) -> None:
    plain = {size: open_session("cpu", graph)(**pictures(*size))["feature"] for size in ((1, 17, 9), (3, 8, 24))}
    engine = onnxruntime_cpu.build_onnxruntime_engine(graph)
    graph.path.unlink()
    # A bundle is moved, or copied to another folder.
    moved = replace(graph, engines=shutil.copytree(graph.engines, tmp_path / "elsewhere"))
    shutil.rmtree(graph.engines)
    assert engine.name in {path.name for path in moved.engines.iterdir()}
    for threads in (None, 1, 2):
        session = open_session("cpu", moved, Settings(threads))
        assert [tensor.name for tensor in session.inputs] == ["picture"]
        for size, expected in plain.items():
            assert_close(session(**pictures(*size))["feature"], expected, "exact")
        assert any(str(moved.engines) in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize(
    "change", [{"digest": "cd" * 32}, {"precision": "int8"}, {"digest": ""}, {"engines": None}], ids=str
)
def test_an_engine_of_another_graph_is_never_opened(graph: GraphFile, change: dict) -> None:
    assert onnxruntime_cpu.build_onnxruntime_engine(graph) == onnxruntime_cpu.find_onnxruntime_engine(graph)
    assert onnxruntime_cpu.find_onnxruntime_engine(replace(graph, **change)) is None


def test_an_engine_of_another_machine_is_never_opened(graph: GraphFile, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime_cpu.build_onnxruntime_engine(graph)
    monkeypatch.setattr(machine, "cpu_identity", lambda: "another CPU")
    assert onnxruntime_cpu.find_onnxruntime_engine(graph) is None
    monkeypatch.setattr(machine, "cpu_identity", lambda: None)
    assert onnxruntime_cpu.find_onnxruntime_engine(graph) is None


def test_files_of_the_working_folder_are_not_run(
    graph: GraphFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A numpy.py there may be anybody's: the process that builds imports what is installed."""
    (poisoned := tmp_path / "poisoned").mkdir()
    for module in ("numpy", "json", "onnxruntime", "x2i"):
        (poisoned / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(poisoned)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    job = BuildJob("onnxruntime", graph.name, str(graph.path), graph.precision, graph.digest, str(graph.engines))
    with contextlib.suppress(InputError):
        builder.build_engine(job, graph.engines, lambda seconds: None)
    assert not (tmp_path / "ran").exists()
    assert onnxruntime_cpu.find_onnxruntime_engine(graph) is not None


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_engine_is_passed_over(graph: GraphFile, damage: str) -> None:
    engine = onnxruntime_cpu.build_onnxruntime_engine(graph)
    whole = engine.read_bytes()
    engine.write_bytes(whole[:-9] if damage == "cut" else whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert onnxruntime_cpu.find_onnxruntime_engine(graph) is None


RUBBISH = {
    "nothing": lambda whole: b"",
    "seven bytes": lambda whole: b"1234567",
    "text": lambda whole: b"no engine " * 1000,
    "a length beyond": lambda whole: whole[:-8] + b"\xff" * 8,
    "no length": lambda whole: whole[:-8] + b"\0" * 8,
    "zeros": lambda whole: bytes(len(whole)),
    "another graph": lambda whole: whole[: len(whole) // 2] + whole[-8:],
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_record_that_vouches_for_rubbish(graph: GraphFile, kind: str) -> None:
    engine = onnxruntime_cpu.build_onnxruntime_engine(graph)
    engine.write_bytes(content := RUBBISH[kind](engine.read_bytes()))
    record = engine.with_suffix(".json")
    told = json.loads(record.read_text("utf-8"))
    told |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    record.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError, match=r"cannot open this graph: .*; remove .*, or build it again") as refused:
        open_session("cpu", graph)
    assert "std::" not in str(refused.value) and len(refused.value.problems) == 1


def test_too_little_memory_is_told_in_words(graph: GraphFile, tmp_path: Path) -> None:
    onnxruntime_cpu.build_onnxruntime_engine(graph)
    program = f"""
import resource
from pathlib import Path
import onnxruntime
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import onnxruntime_cpu
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
try:
    resource.setrlimit(resource.RLIMIT_DATA, (used + 100_000, used + 100_000))
    onnxruntime_cpu.OnnxRuntimeSession(Path({str(graph.path)!r}), 1)
except InputError as error:
    print("refused:", str(error).splitlines()[0])
"""
    assert "refused: " in run(sys.executable, "-c", program, cwd=tmp_path).stdout


def test_a_graph_that_cannot_be_read_leaves_nothing(graph: GraphFile) -> None:
    graph.path.write_bytes(b"no graph")
    with pytest.raises(InputError, match="cannot prepare this graph"):
        onnxruntime_cpu.build_onnxruntime_engine(graph)
    assert not graph.engines.exists()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    machine.cpu_identity.cache_clear()
    yield tmp_path / "cpuinfo"
    machine.cpu_identity.cache_clear()


def test_a_cpu_is_known_by_its_abilities(told: Path) -> None:
    found = []
    for flags in ("avx2 fma", "fma avx2", "avx2 fma avx512f"):
        told.write_text(
            f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\ncpu MHz\t: 2000\n\nprocessor\t: 1\n"
        )
        machine.cpu_identity.cache_clear()
        found.append(machine.cpu_identity())
    assert found[0] == found[1] != found[2] and found[0].startswith("Some CPU ")
    assert machine.cpu_problem() is None


def test_a_system_that_tells_nothing_is_refused_in_words(told: Path, tmp_path: Path) -> None:
    from x2i.runtime.bundle.reader import open_bundle

    assert machine.cpu_identity() is None
    bundle = open_bundle(write_toy(tmp_path / "toy"))
    with pytest.raises(InputError, match=r"--for cpu: needs .*, which tells what the CPU can do"):
        BuildRequest("cpu").jobs(bundle)
    with pytest.raises(InputError, match=r"--count: ONNX Runtime's engines serve every size"):
        BuildRequest("cpu", count=2).jobs(bundle)


def test_the_record_tells_what_it_was_made_for(graph: GraphFile) -> None:
    engine = onnxruntime_cpu.build_onnxruntime_engine(graph)
    key = store.read_record(engine.with_suffix(".json")).key
    assert (key.library, key.device, key.graph) == ("onnxruntime", machine.cpu_identity(), "some")
    assert sorted(path.name for path in graph.engines.iterdir()) == [engine.name, f"{engine.stem}.json"]
    assert json.loads(engine.with_suffix(".json").read_text())["bytes"] == engine.stat().st_size
