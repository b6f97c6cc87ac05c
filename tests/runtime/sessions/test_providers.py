"""Execution providers of ONNX Runtime: which are here, what is left to the CPU, and what is said of it.

Truth is the CPU's own provider, opened by the same way; Azure's, which every onnxruntime has, takes nothing at all.
"""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.errors import EngineWarning, InputError
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.providers import provider_session, registered
from x2i.runtime.sessions.providers.placement import Node, named, placement
from x2i.runtime.sessions.providers.registered import ChosenProvider, Provider, asked_provider, provider_names
from x2i.runtime.sessions.providers.trial_graph import GATES, OUTPUT, trial_error, trial_graph, trial_inputs
from x2i.runtime.sessions.session import GraphFile, Settings

AZURE = "AzureExecutionProvider"


@pytest.mark.parametrize("precision", GATES)
@pytest.mark.parametrize("backend", ["cpu", "ep:CPU", "ep:CPUExecutionProvider"])
def test_the_trial_computes_what_its_reference_does(backend: str, precision: str) -> None:
    session = open_session(backend, trial_graph(precision))
    outputs = session(**trial_inputs())
    assert trial_error(outputs) < 1e-5
    outputs[OUTPUT][0, 0, 0, 0] += 0.1
    assert trial_error(outputs) > GATES["fp16"]
    assert not trial_error({OUTPUT: outputs[OUTPUT] * np.nan}) <= GATES["fp16"]


def test_a_whole_run_by_its_provider_is_the_same_picture(tiny_bundle: Path) -> None:
    call = {"language": "French", "steps": 2, "seed": 3}
    there, wanted = (load(tiny_bundle, name)("a cat", **call) for name in ("ep:CPU", "cpu"))
    np.testing.assert_array_equal(there.latents, wanted.latents)


def test_what_a_provider_leaves_is_refused_by_name(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=rf"5 nodes that {AZURE} does not take \(Conv conv, .*Softmax softmax\) would"):
        open_session("ep:azure", trial_graph())
    command = ["run", str(tiny_bundle), "a cat", "--language", "French", "--out", f"{tmp_path}/a.png"]
    result = CliRunner().invoke(main, [*command, "--backend", "ep:azure"])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and "and" in line and "add --rest-on-cpu to let them" in line
    assert not list(tmp_path.iterdir())


def test_the_rest_runs_on_the_cpu_where_that_is_allowed(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.warns(EngineWarning, match=rf"^trial: 5 nodes that {AZURE} does not take .* run on the CPU$"):
        session = open_session("ep:azure", trial_graph(), Settings(rest_on_cpu=True))
    assert trial_error(session(**trial_inputs())) < 1e-5
    command = ["run", str(tiny_bundle), "a cat", "--language", "French", "--steps", "1", "--out", f"{tmp_path}/a.png"]
    result = CliRunner().invoke(main, [*command, "--backend", "ep:azure", "--rest-on-cpu"])
    assert result.exit_code == 0, result.stderr
    assert "x2i: warning: denoiser: " in result.stderr and (tmp_path / "a.png").exists()


def test_nobody_is_told_to_let_the_cpu_run_what_it_runs_anyway(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"^rest_on_cpu: expected backend webgpu or ep:NAME, got cpu; leave"):
        load(tiny_bundle, "cpu", rest_on_cpu=True)
    with pytest.raises(InputError, match="rest_on_cpu: expected True or False, got 'yes'"):
        load(tiny_bundle, "ep:CPU", rest_on_cpu="yes")


def test_an_unknown_provider_lists_those_that_are_here() -> None:
    names = provider_names()
    assert {"CPU", "Azure"} <= {*names}
    for spec, said in (("ep:wing", "no execution provider 'wing' is here"), ("ep", "expected the name of a provider")):
        with pytest.raises(InputError) as refused:
            open_session(spec, trial_graph())
        (line,) = refused.value.problems
        assert said in line and f"registered are {', '.join(names)}; " in line


def test_webgpu_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_session, "webgpu_present", lambda: False)
    with pytest.raises(InputError, match=r"^backend webgpu: needs .*pip install 'x2i-edge\[webgpu\]'$"):
        open_session("webgpu", trial_graph())


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A package of a plug-in whose device is the CPU; what was registered, as ONNX Runtime was asked to."""
    (tmp_path / "onnxruntime_ep_two_seas.py").write_text("def get_library_path():\n    return '/plugins/libseas.so'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registered, "_REGISTERED", {})
    (device,) = (found for found in onnxruntime.get_ep_devices() if found.ep_name == "CPUExecutionProvider")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *given: asked.append(given))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device] if asked else [])
    yield asked
    sys.modules.pop("onnxruntime_ep_two_seas", None)


def test_a_plugins_library_is_registered_once(plugin: list) -> None:
    assert "two-seas" in provider_names() and not plugin
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda name: open_session(name, trial_graph()), ["ep:two-seas", "ep:Two_Seas"] * 4))
    assert plugin == [("two-seas", "/plugins/libseas.so")]
    assert all(trial_error(session(**trial_inputs())) < 1e-5 for session in sessions)


def test_a_device_is_chosen_by_number_or_kind(plugin: list) -> None:
    for name in ("two-seas:0", "two-seas:cpu", "two-seas"):
        assert asked_provider(name).where.startswith("CPUExecutionProvider (CPU")
    for name in ("two-seas:1", "two-seas:NPU"):
        with pytest.raises(InputError, match=r"expected one of its devices, 0 \(CPU.*\), got '(1|NPU)'"):
            asked_provider(name)


def test_a_provider_that_onnx_runtime_was_built_with_takes_no_device() -> None:
    with pytest.raises(InputError, match=f"^{AZURE} is built into ONNX Runtime, .* leave out the device, 'GPU'$"):
        asked_provider("azure:GPU")


def test_a_plugin_without_a_device_is_refused(plugin: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [])
    with pytest.raises(InputError, match=r"two-seas finds no device here that it can use; install the driver"):
        open_session("ep:two-seas", trial_graph())


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "libwing.so"
    with pytest.raises(InputError, match=r"expected the library of an execution provider, found no file"):
        open_session(f"ep:{library}", trial_graph())
    library.write_text("not a library" * 99)
    with pytest.raises(InputError, match=rf"cannot load the provider wing from {library}: .*invalid ELF"):
        open_session(f"ep:{library}:0", trial_graph())


def test_a_package_that_does_not_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime_ep_torn.py").write_text("import there_is_no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"onnxruntime_ep_torn does not import: .*--force-reinstall onnxruntime-ep-to"):
        open_session("ep:torn", trial_graph())


@pytest.mark.parametrize("fails_in", ["fp16", "both", "numbers"])
def test_a_device_without_float16_refuses_a_half_graph(fails_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = provider_session.ProviderSession

    def opened(graph: GraphFile, asked: ChosenProvider, threads: int | None = None) -> object:
        if fails_in == "both" or (fails_in, graph.precision) == ("fp16", "fp16"):
            raise RuntimeError("Program Cast requires f16 but the device does not support it.")
        session = whole(graph, asked, threads)
        return session if fails_in != "numbers" else lambda **given: {OUTPUT: session(**given)[OUTPUT] * 2}

    monkeypatch.setattr(provider_session, "ProviderSession", opened)
    problem = provider_session._half_problem.__wrapped__(ChosenProvider(Provider("CPUExecutionProvider")))
    said = {"fp16": "Program Cast requires f16", "numbers": "its error is 1.0e+00 where 2e-02 is allowed", "both": None}
    if said[fails_in] is None:
        assert problem is None
        return
    assert problem is not None and problem.startswith(
        "this graph is fp16, and CPUExecutionProvider computes no float16"
    )
    assert said[fails_in] in problem and problem.endswith("take a bundle in fp32, or choose another backend")


def counted_graph(path: Path) -> Path:
    """Sizes on one side, numbers on the other; one node without a name, and one whose output has no type."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "first"], ["size"], "size"),
        helper.make_node("Gather", ["x", "first"], ["row"], "row"),
        helper.make_node("Neg", ["row"], ["made"]),
        helper.make_node("Abs", ["made"], ["y"], "abs"),
    ]
    of = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "counted",
        [of("x", TensorProto.FLOAT, ["n", 2])],
        [of("y", TensorProto.FLOAT, [1, 2]), of("size", TensorProto.INT64, [1])],
        [helper.make_tensor("first", TensorProto.INT64, [1], [0])],
        value_info=[of("shape", TensorProto.INT64, [2]), of("row", TensorProto.FLOAT, [1, 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_nodes_that_count_may_stay_on_the_cpu(tmp_path: Path) -> None:
    """By the types of what they give, and where the file does not name them by their operator."""
    nodes = ["Shape shape", "Gather size", "Gather row", "Neg ", "Abs abs", "Gather Gather_token_7", "MatMul made_here"]
    listed = [SimpleNamespace(name=name, op_type=kind) for kind, _, name in (node.partition(" ") for node in nodes)]
    parts = [
        SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: listed),
        SimpleNamespace(ep_name="Wing", get_nodes=lambda: listed[:2]),
    ]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    found = placement(counted_graph(tmp_path / "counted.onnx"), session, "Wing")
    assert [str(node) for node in found.counting] == ["Shape shape", "Gather size", "Gather Gather_token_7"]
    assert [str(node) for node in found.computing] == ["Gather row", "Neg", "Abs abs", "MatMul made_here"]
    assert found.others == (("Wing", 2),)
    assert str(found) == "on Wing, but on the CPU 3 nodes that count and 4 nodes that compute"


def test_only_the_first_nodes_are_named() -> None:
    assert named([Node("a", "Conv"), Node("", "Add")]) == "Conv a, Add"
    assert named([Node(str(number), "Conv") for number in range(9)]).endswith("Conv 5 and 3 more")


def test_a_graph_that_counts_alone_needs_no_leave(tmp_path: Path) -> None:
    path = tmp_path / "sizes.onnx"
    of = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["y"], "shape")],
        "sizes",
        [of("x", TensorProto.FLOAT, ["n", 2])],
        [of("y", TensorProto.INT64, [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = open_session("ep:azure", GraphFile("sizes", path))
    assert session(x=np.ones((3, 2), np.float32))["y"].tolist() == [3, 2]
    assert str(session.placement) == f"on {AZURE}, but on the CPU 1 nodes that count"


def test_inspect_tells_the_nodes_that_a_provider_leaves(tiny_bundle: Path) -> None:
    """And refuses what it would not do: JSON is the manifest alone."""
    lines = CliRunner().invoke(main, ["inspect", str(tiny_bundle), "--backend", "ep:azure"]).stdout.splitlines()
    told = lines[lines.index("on ep:azure, here") + 1 :]
    assert len(told) == len(list(tiny_bundle.glob("*.onnx")))
    assert all(f"on {AZURE}, but on the CPU " in line and "nodes that compute: " in line for line in told)
    for wrong in (["--backend", "ep:azure", "--json"], ["--backend", "ep:wing"]):
        assert CliRunner().invoke(main, ["inspect", str(tiny_bundle), *wrong]).exit_code == 2
