"""The attention that is found in exported graphs, and what the graphs give with the kernel in its place."""

import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from x2i.export.reuse.variants import write_variant_graph
from x2i.kernels.cpu_attention.library import Library
from x2i.kernels.cpu_attention.openvino_op import CpuAttention
from x2i.kernels.cpu_attention.pattern import AttentionShape, find_attention
from x2i.kernels.injected_attention.openvino_op import extension
from x2i.runtime.bundle.preset import DenoiserVariant
from x2i.runtime.bundle.reader import open_bundle

from tests.numerics import assert_near

SIZES = {"batch": 2, "height": 10, "width": 12, "tokens": 6, "patches": 5}
SYSTEMS = {"tiny_bundle": (8, 0), "elite_bundle": (4, 4), "ip_adapter_bundle": (4, 4), "fastcomposer_bundle": (8, 0)}
"""Attentions of each denoiser: plain ones, and injected ones."""


def read(path: Path) -> openvino.Model:
    core = openvino.Core()
    core.add_extension(extension())
    return core.read_model(path)


def noise(kernel: CpuAttention, model: openvino.Model, arrays: dict[str, np.ndarray], wanted: bool) -> np.ndarray:
    kernel.replace(model, "bf16", False, lambda shape: wanted)
    core = openvino.Core()
    core.add_extension(kernel.extension)
    return core.compile_model(model, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})(arrays)["noise"]


def inputs(folder: Path) -> dict[str, np.ndarray]:
    generator, made = np.random.default_rng(0), {}
    for tensor in open_bundle(folder, check_files=False).manifest.graphs["denoiser"].inputs:
        shape = [size if isinstance(size, int) else SIZES.get(size, 7) for size in tensor.shape]
        made[tensor.name] = generator.standard_normal(shape).astype(tensor.dtype)
    return made | {"timestep": np.array([700, 700], made["timestep"].dtype)}


@pytest.fixture
def kernel(compiled_kernel: Path) -> CpuAttention:
    return CpuAttention(Library(compiled_kernel / "x2i_attention.so", "tested"))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_denoiser_computes_the_same(system: str, fixed: bool, kernel: CpuAttention, request) -> None:
    folder = request.getfixturevalue(system)
    arrays, models = inputs(folder), [read(folder / "denoiser.onnx") for _ in range(2)]
    if fixed:
        for model in models:
            model.reshape({name: list(array.shape) for name, array in arrays.items()})
    shapes = [found.shape for found in find_attention(models[0])]
    plain, injected = SYSTEMS[system]
    assert len(shapes) == plain + injected and sum(shape.second != 0 for shape in shapes) == injected
    assert fixed == all(shape.work is not None for shape in shapes)
    expected = noise(kernel, models[0], arrays, False)
    actual = noise(kernel, models[1], arrays, True)
    assert np.any(actual != expected)
    assert_near(actual, expected, "attention-bf16")


def test_downsampled_keys_are_found(tiny_bundle: Path, kernel: CpuAttention, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    thin = folder / "thin.onnx"
    write_variant_graph(folder / "denoiser.onnx", thin, DenoiserVariant("denoiser", kv_downsample=2))
    model, arrays = read(thin), inputs(folder)
    model.reshape({name: list(array.shape) for name, array in arrays.items()})
    shapes = {(shape.queries, shape.keys) for shape in (found.shape for found in find_attention(model))}
    assert (120, 30) in shapes and (120, 120) not in shapes
    assert_near(noise(kernel, model, arrays, True), noise(kernel, read(thin), arrays, False), "attention-bf16")


def test_masked_attention_is_left(tiny_bundle: Path, elite_bundle: Path) -> None:
    """Text encoders see no later token, which the kernel does not know."""
    for path in (tiny_bundle / "encoder.onnx", elite_bundle / "text_encoder.onnx"):
        model = read(path)
        assert any(node.get_type_name() == "Softmax" for node in model.get_ops())
        assert find_attention(model) == []


SPOILED = ("axis", "order", "width", "two users", "scaled values", "windows", "one sample's keys", "joined otherwise",
           "a scale a head", "a scale in bfloat16")  # fmt: skip


@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_only_looks_like_attention_is_left(spoiled: str) -> None:
    assert find_attention(looking_alike(spoiled)) == []


def test_what_is_spoiled_there_is_attention_otherwise() -> None:
    assert len(find_attention(looking_alike(""))) == 1


def looking_alike(spoiled: str) -> openvino.Model:
    given = [ops.parameter([2, 6, 8], openvino.Type.f32) for _ in range(3)]
    order, split = np.array([0, 2, 1, 3]), np.array([4, 3, 2, 4] if spoiled == "windows" else [0, 0, 2, -1])
    if spoiled == "width":
        given[2] = ops.parameter([2, 6, 16], openvino.Type.f32)
    if spoiled == "one sample's keys":
        given[1:] = [ops.parameter([1, 6, 8], openvino.Type.f32) for _ in range(2)]
    q, k, v = (ops.transpose(ops.reshape(one, split, True), order) for one in given)
    if spoiled == "scaled values":
        v = ops.multiply(v, np.float32(2))
    if spoiled == "a scale a head":
        q = ops.multiply(q, np.array([2, 3], np.float32).reshape(1, 2, 1, 1))
    if spoiled == "a scale in bfloat16":
        scale = openvino.op.Constant(openvino.Type.bf16, openvino.Shape([1]), [0.25])
        q = ops.multiply(q, ops.convert(scale, "f32"))
    shares = ops.softmax(ops.matmul(q, k, False, True), 2 if spoiled == "axis" else 3)
    turned = ops.transpose(ops.matmul(shares, v, False, False), np.array([0, 1, 2, 3]) if spoiled == "order" else order)
    joined = np.array([2, 24, 2] if spoiled == "joined otherwise" else [2, 6, -1])
    outputs = [ops.reshape(turned, joined, True).output(0)]
    outputs += [shares.output(0)] if spoiled == "two users" else []
    return openvino.Model(outputs, given)


def test_work() -> None:
    assert AttentionShape(2, 8, 64, 64, 40).work == 2 * 2 * 8 * 64 * 64 * 40
    assert AttentionShape(2, 8, 64, 77, 40, 257).work == 2 * 2 * 8 * 64 * (77 + 257) * 40
    assert AttentionShape(None, 8, 64, 64, 40).work is None and AttentionShape(1, 8, 64, 64, 40, None).work is None
