"""The lower bound: its counts against torch's, its calls against the runtime's, its memory by hand."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode
from x2i.export.commands.estimate import estimate as command
from x2i.export.components.decoder import decoder_component
from x2i.export.components.denoiser import denoiser_component
from x2i.export.errors import PlanError
from x2i.export.estimate.calls import graph_calls
from x2i.export.estimate.devices import DEVICES
from x2i.export.estimate.operations import count_work, peak_bytes
from x2i.export.estimate.roofline import estimate_bundle
from x2i.export.estimate.static_graph import static_graph
from x2i.models.random.weights import random_stable_diffusion
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError

ORIN = DEVICES["orin-nano-8gb"]


@pytest.fixture(scope="module")
def base():
    return random_stable_diffusion("tiny")


@pytest.mark.parametrize("part", ["denoiser", "decoder"])
def test_counts_are_torchs(tiny_bundle, base, part):
    """torch counts what is multiplied by weights, and not scaled_dot_product_attention on a CPU."""
    sd = base
    component = denoiser_component(sd.unet) if part == "denoiser" else decoder_component(sd.vae, sd.scaling_factor)
    inputs = component.example(component.proof)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        component.module(*inputs.values())
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    done = count_work(static_graph(tiny_bundle / f"{part}.onnx", shapes))
    assert 2 * (done.macs["fp32"] - done.attention_macs) == counted.get_total_flops()


def test_attention_is_counted_apart(tiny_bundle):
    """XLM-R: two layers of four heads, each with two products of 77 x 77 and its whole width."""
    tokens, width, layers, batch = 77, 64, 2, 3
    shape = (batch, tokens)
    done = count_work(static_graph(tiny_bundle / "encoder.onnx", {"input_ids": shape, "attention_mask": shape}))
    assert done.attention_macs == 2 * layers * batch * tokens * tokens * width
    weights = layers * (4 * width * width + 2 * width * 128)
    assert done.macs == {"fp32": batch * tokens * weights + done.attention_macs}


@pytest.mark.parametrize("system", ["tiny", "elite", "ip_adapter", "fastcomposer", "sound"])
def test_every_system_has_a_bound(request, system):
    """The plan's own run is walked through, functions and all: once a picture, and at each of its steps."""
    bundle = open_bundle(request.getfixturevalue(f"{system}_bundle"))
    found = estimate_bundle(bundle, ORIN, {"steps": 4, "sampler": "ddim"})
    denoiser, decoder = found.stages[-2:]
    assert (denoiser.graph, denoiser.calls, decoder.graph, decoder.calls) == ("denoiser", 4, "decoder", 1)
    assert all(stage.seconds > 0 and stage.peak > 0 and sum(stage.macs.values()) > 0 for stage in found.stages)
    assert {stage.graph for stage in found.stages} <= set(bundle.manifest.graphs)


def test_size_count_and_guidance_change_the_work(tiny_bundle):
    bundle = open_bundle(tiny_bundle)

    def macs(**options) -> int:
        made = graph_calls(bundle, {"steps": 1, **options})
        return sum(count_work(call.graph).macs["fp32"] for call in made if call.name == "denoiser")

    assert macs(count=2) == macs(guidance=1.0, count=4) == 2 * macs() == 4 * macs(guidance=1.0)
    assert macs(size=(256, 256)) > 3 * macs(size=(128, 128))


def test_samplers_that_call_more_often_than_they_step(tiny_bundle):
    made = graph_calls(open_bundle(tiny_bundle), {"steps": 5, "sampler": "plms"})
    assert [call.count for call in made if call.name == "denoiser"] == [6]


def test_types_of_products(tmp_path):
    """int8 where both sides are integers; weights alone in 8 or 4 bits are multiplied as what they are spread to."""
    eight, four, half = (np.zeros((32, 32), kind) for kind in (np.int8, np.int8, np.float16))
    step, steps = np.float32(0.1), np.ones((1, 32), np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["eight", "step", "zero"], ["w"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["d", "turned"], ["a"]),
        helper.make_node("DequantizeLinear", ["four", "steps"], ["v"], axis=0, block_size=32),
        helper.make_node("MatMul", ["a", "v"], ["b"]),
        helper.make_node("Cast", ["b"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "half"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"eight": eight, "half": half, "step": step, "steps": steps, "zero": np.int8(0)}
    packed = helper.make_tensor("four", TensorProto.INT4, [32, 32], four.tobytes()[:512], raw=True)
    graph = saved(tmp_path / "g.onnx", nodes, weights, (5, 32), (5, 32), packed)
    done = count_work(graph)
    assert done.macs == {"int8": 5120, "fp32": 5120, "fp16": 5120} and done.attention_macs == 0
    assert done.weights == 1024 + 512 + 2048 + 4 + 128 + 1
    # q in int8 is read, h and c in float16 are read and written; of float32, a is both and b is written.
    assert sorted(done.moved) == [160, 320, 320, 640, 640, 640]


def test_a_table_moves_the_rows_that_are_read(tmp_path):
    table = np.zeros((1000, 8), np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["t", "i"], ["y"]),
    ]
    assert count_work(saved(tmp_path / "g.onnx", nodes, {"t": table}, (5,), (5, 8))).weights == 5 * 8 * 4


def test_peak_by_hand(tmp_path):
    """x (400 bytes) lives until a second branch reads it; a reshape takes nothing; scores of attention are fused."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "wide"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node("MatMul", ["p", "narrow"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    weights = {
        "shape": np.array([10, 10]),
        "wide": np.zeros((10, 50), np.float32),
        "narrow": np.zeros((50, 10), np.float32),
    }
    graph = saved(tmp_path / "g.onnx", nodes, weights, (10, 10), (10, 10))
    assert peak_bytes(graph) == 3 * 400
    assert peak_bytes(graph, fused_attention=False) == 400 + 2 * 2000


def test_bound_is_the_slower_of_both(tiny_bundle):
    """Where arithmetic costs nothing, bytes do; where neither fits the chip, both grow."""
    bundle, options = open_bundle(tiny_bundle), {"steps": 2}
    slow = replace(ORIN, rates=dict.fromkeys(ORIN.rates, 1e6), bandwidth=1e30)
    thin = replace(ORIN, rates=dict.fromkeys(ORIN.rates, 1e30), bandwidth=1e6, cache=0)
    for device, attribute in ((slow, "compute_seconds"), (thin, "memory_seconds")):
        found = estimate_bundle(bundle, device, options)
        assert found.seconds == pytest.approx(sum(s.calls * getattr(s, attribute) for s in found.stages))
    macs = sum(stage.calls * sum(stage.macs.values()) for stage in estimate_bundle(bundle, slow, options).stages)
    assert estimate_bundle(bundle, slow, options).seconds == pytest.approx(2 * macs / 1e6)
    moved = sum(stage.calls * (stage.weights + stage.activations) for stage in found.stages)
    assert found.seconds == pytest.approx(moved / 1e6)


def test_memory_names_what_is_assumed(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    found = estimate_bundle(bundle, ORIN, {"steps": 1})
    files = sum(bundle.manifest.files[bundle.manifest.graphs[stage.graph].file].bytes for stage in found.stages)
    assert (
        found.memory[0].bytes == files and [share.origin for share in found.memory] == ["derived"] * 2 + ["assumed"] * 3
    )
    assert len(estimate_bundle(bundle, DEVICES["rtx-4090"], {"steps": 1}).memory) == 4


def test_a_shape_that_depends_on_numbers(tmp_path):
    nodes = [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)]
    with pytest.raises(PlanError, match="expected shapes that follow from those of the inputs"):
        saved(tmp_path / "g.onnx", nodes, {}, (3, 4), (2, 5))


def test_weights_beside_the_file_need_not_be_there(tmp_path):
    model = onnx.load(_written(tmp_path / "g.onnx", [_product()], {"w": np.zeros((8, 8), np.float32)}, (5, 8), (5, 8)))
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, size_threshold=0, location="e.onnx.data")
    (tmp_path / "e.onnx.data").unlink()
    assert count_work(static_graph(tmp_path / "e.onnx", {"x": (5, 8)})).macs == {"fp32": 5 * 8 * 8}


def test_rates_are_of_dense_weights():
    for device in DEVICES.values():
        assert device.rates["int8"] >= device.rates["fp16"] >= device.rates["fp32"] > 0 and device.source
    assert (ORIN.rates["int8"], ORIN.bandwidth, ORIN.memory) == (20e12, 68e9, 8e9)


def test_command(tiny_bundle):
    printed = CliRunner().invoke(command, [str(tiny_bundle), "--device", "orin-nano-8gb", "--steps", "2"])
    assert printed.exit_code == 0, printed.output
    assert "a lower bound and no forecast" in printed.output and ORIN.source in printed.output
    assert "assumed" in printed.output and "derived" in printed.output
    words = [str(tiny_bundle), "--device", "orin-nano-8gb", "--steps", "2", "--json"]
    found = json.loads(CliRunner().invoke(command, words).output)
    assert found["seconds"] == estimate_bundle(open_bundle(tiny_bundle), ORIN, {"steps": 2}).seconds
    assert "no forecast" in found["bound"] and found["stages"][0]["graph"] == "encoder"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "orin-nano-8gb", "--steps", "0"], "steps: expected a whole number from 1 to"),
        (["--device", "orin-nano-8gb", "--size", "130x128"], "size: expected (height, width) in multiples of"),
        (["--device", "toaster"], "'toaster' is not one of 'orin-nano-8gb'"),
        ([], "Missing option '--device'"),
    ],
)
def test_refusals(tiny_bundle, words, said):
    result = CliRunner().invoke(command, [str(tiny_bundle), *words])
    assert result.exit_code == 2 and said in result.output


def test_no_bundle(tmp_path):
    with pytest.raises(InputError):
        open_bundle(tmp_path)
    assert CliRunner().invoke(command, [str(tmp_path), "--device", "rtx-4090"]).exit_code == 2


def test_needs_no_torch():
    code = (
        "import sys; import x2i.export.commands.estimate, x2i.export.estimate.roofline; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def saved(path: Path, nodes: list, weights: dict, given: tuple, made: tuple, *more: onnx.TensorProto):
    return static_graph(_written(path, nodes, weights, given, made, *more), {"x": given})


def _written(path: Path, nodes: list, weights: dict, given: tuple, made: tuple, *more: onnx.TensorProto) -> Path:
    """A graph x -> y."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, side) for name, side in (("x", given), ("y", made)))
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], [*tensors, *more])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def _product() -> onnx.NodeProto:
    return helper.make_node("MatMul", ["x", "w"], ["y"])
