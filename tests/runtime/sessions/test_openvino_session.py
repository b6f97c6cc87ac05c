"""Graphs on OpenVINO: the same numbers as fp32 torch's, whatever the CPU would rather compute in."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions import openvino_device, openvino_support
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession
from x2i.runtime.sessions.openvino_session import OpenVinoSession
from x2i.runtime.sessions.session import GraphFile, Settings

from tests.numerics import assert_close

FP32_ERROR = 2e-5
"""Measured: 6e-6 at most; bfloat16 makes 1e-2 and more."""


def opened(bundle: Bundle, graph: str = "denoiser", **settings) -> OpenVinoSession:
    return OpenVinoSession(bundle.graph_file(graph), Settings(**{"threads": 1} | settings))


def inputs(bundle: Bundle, graph: str = "denoiser") -> dict[str, np.ndarray]:
    described = bundle.manifest.graphs[graph]
    return {tensor.name: np.load(bundle.path(described.proof[tensor.name])) for tensor in described.inputs}


@pytest.mark.parametrize("system", ["tiny", "elite", "ip_adapter", "fastcomposer", "sound"])
def test_every_graph_is_what_torch_computes(system: str, request: pytest.FixtureRequest) -> None:
    bundle = open_bundle(request.getfixturevalue(f"{system}_bundle"), check_files=False)
    errors = {
        name: proof_error(bundle.folder, graph, opened(bundle, name)) for name, graph in bundle.manifest.graphs.items()
    }
    assert max(errors.values()) <= FP32_ERROR, errors


def test_a_whole_run_is_that_of_the_default_backend(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    cpu = Pipeline(bundle, lambda name: OnnxRuntimeSession(bundle.graph_file(name).path, 1))
    ours = Pipeline(bundle, lambda name: opened(bundle, name))
    options = {"language": "French", "steps": 2, "size": (40, 48), "count": 2}
    expected, actual = (pipeline("pomme", **options).latents for pipeline in (cpu, ours))
    assert_close(actual, expected, "batched-latents")


def test_tensors_are_named_and_typed_as_in_the_manifest(elite_bundle: Path) -> None:
    bundle = open_bundle(elite_bundle, check_files=False)
    described, session = bundle.manifest.graphs["denoiser"], opened(bundle)
    for expected, actual in ((described.inputs, session.inputs), (described.outputs, session.outputs)):
        assert [(t.name, t.dtype) for t in actual] == [(t.name, t.dtype) for t in expected]
        for one, other in zip(actual, expected, strict=True):
            fixed = [(mine, theirs) for mine, theirs in zip(one.shape, other.shape, strict=True) if theirs != mine]
            assert all(isinstance(mine, str) and isinstance(theirs, str) for mine, theirs in fixed)


def test_bfloat16_is_for_quantized_graphs_alone(tiny_bundle: Path) -> None:
    if "BF16" not in openvino_device.capabilities("CPU"):
        pytest.skip("this CPU has no bfloat16")
    bundle = open_bundle(tiny_bundle, check_files=False)
    described = bundle.manifest.graphs["denoiser"]
    errors = {}
    for precision in ("fp32", "fp16", "int8-weights", "int8"):
        graph = replace(bundle.graph_file("denoiser"), precision=precision)
        errors[precision] = proof_error(bundle.folder, described, OpenVinoSession(graph, Settings(threads=1)))
    assert errors.pop("int8") > 1e-3
    assert max(errors.values()) <= FP32_ERROR, errors


def test_outputs_outlive_later_calls_and_inputs_are_left_alone(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    session, arrays = opened(bundle), inputs(bundle)
    before = {name: array.copy() for name, array in arrays.items()}
    first = session(**arrays)["noise"]
    kept = first.copy()
    session(**arrays | {"latents": arrays["latents"] * 2})
    assert_close(first, kept, "exact")
    for name, array in arrays.items():
        assert_close(array, before[name], "exact")


def test_what_is_bound_needs_not_be_given_again(elite_bundle: Path) -> None:
    bundle = open_bundle(elite_bundle, check_files=False)
    session, arrays = opened(bundle), inputs(bundle)
    given = {name: arrays.pop(name) for name in ("latents", "timestep")}
    for array in arrays.values():
        array.setflags(write=False)
    call = session.bind(**{name: array[...] for name, array in arrays.items()})
    changed = given | {"latents": given["latents"] * 0.5}
    for latents in (given, changed, given):
        assert_close(call(**latents)["noise"], session(**latents, **arrays)["noise"], "exact")


@pytest.mark.parametrize(("graph", "output"), [("denoiser", "noise"), ("decoder", "image")])
def test_several_threads_share_a_session(tiny_bundle: Path, graph: str, output: str) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    session, arrays = opened(bundle, graph), inputs(bundle, graph)
    several = [arrays | {"latents": arrays["latents"] * factor} for factor in (0.25, 0.5, 1.0, 2.0)]
    expected = [session(**one)[output] for one in several]
    with ThreadPoolExecutor(4) as pool:
        for actual, alone in zip(pool.map(lambda one: session(**one)[output], several), expected, strict=True):
            assert_close(actual, alone, "exact")


@pytest.mark.parametrize("device", ["XPU", "AUTO:CPU,XPU", "GPU.7"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(tiny_bundle: Path, device: str) -> None:
    settings = Settings(device=device)
    message = rf"device: expected one of CPU.*, got {device.split(',')[-1]}; install its driver"
    with pytest.raises(InputError, match=message):
        OpenVinoSession(open_bundle(tiny_bundle, check_files=False).graph_file("decoder"), settings)
    assert "device: expected one of CPU" in str(openvino_support.openvino_problem(None, settings))


def test_a_missing_package_is_told_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openvino_support.openvino_problem(None, Settings()) is None
    monkeypatch.setattr(openvino_support, "find_spec", lambda name: None)
    assert "pip install 'x2i-edge[openvino]'" in str(openvino_support.openvino_problem(None, Settings()))


def test_a_package_that_does_not_import_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"libtbb.so.12: cannot open shared object file, for {name}\nand more")

    monkeypatch.setattr(openvino_support, "import_module", broken)
    problem = str(openvino_support.openvino_problem(None, Settings()))
    assert problem.startswith("openvino does not import: libtbb.so.12") and "--force-reinstall" in problem
    assert len(problem.splitlines()) == 1


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "decoder.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"decoder.onnx: OpenVINO \S+ cannot open this graph on CPU: ") as caught:
        OpenVinoSession(GraphFile("decoder", path), Settings())
    assert len(str(caught.value).splitlines()) == 1


def test_sizes_that_do_not_fit_are_refused_in_one_line(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    with pytest.raises(
        InputError, match=r"^latents: expected float32 \[.*, 4, .*\], got float32 \[1, 3, 4, 4\]"
    ) as caught:
        opened(bundle, "decoder")(latents=np.zeros((1, 3, 4, 4), np.float32))
    assert len(str(caught.value).splitlines()) == 1
