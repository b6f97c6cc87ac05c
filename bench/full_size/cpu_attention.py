"""`python -m full_size.cpu_attention`: one attention at a time, by the kernel, by OpenVINO and by ONNX Runtime."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as ops
from x2i.kernels.cpu_attention.openvino_op import PRODUCTS, CpuAttention, open_kernel
from x2i.kernels.cpu_attention.reference import reference_attention
from x2i.runtime.machine import processor, usable_cores, versions
from x2i.runtime.sessions.onnxruntime_cpu import session_options

SIZES = (
    (2, 8, 4096, 4096, 40),
    (2, 8, 1024, 1024, 80),
    (2, 8, 256, 256, 160),
    (2, 8, 64, 64, 160),
    (2, 8, 4096, 1024, 40),
    (2, 8, 4096, 77, 40),
    (2, 10, 4096, 4096, 64),
    (1, 1, 4096, 4096, 512),
)
"""Batch, heads, queries, keys, width: Stable Diffusion 1.5 at 512 x 512, guided; with every second row and column of
keys; its text; SDXL's width; its decoder."""
Run = Callable[[], np.ndarray]
ORDER = np.array([0, 2, 1, 3], np.int64)


@click.command()
@click.option("--repeats", type=click.IntRange(min=3), default=15, show_default=True, help="Timed calls of each.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all cores if left out.")
def cpu_attention(repeats: int, threads: int | None) -> None:
    """Time everybody in turns, and print medians beside each one's relative error to float64."""
    used = threads or usable_cores()
    click.echo(f"{processor()}, {used} threads, {versions(('openvino', 'onnxruntime', 'numpy'))}")
    click.echo("\n| batch, heads, queries, keys, width | by | ms | fastest to slowest | GFLOP/s | relative error |")
    click.echo("|---|---|---|---|---|---|")
    for sizes in SIZES:
        for line in _lines(sizes, repeats, used):
            click.echo(line)


def _lines(sizes: tuple[int, int, int, int, int], repeats: int, threads: int) -> list[str]:
    batch, heads, queries, keys, width = sizes
    generator = np.random.default_rng(0)
    rows = (queries, keys, keys)
    inputs = [generator.standard_normal((batch, number, heads * width), np.float32) for number in rows]
    query, key, value = (array[:1, :, :width].astype(np.float64) for array in inputs)
    truth = reference_attention(query, key, value, heads=1)
    runs = _runs(inputs, heads, threads)
    errors = {name: _distance(run()[:1, :, :width], truth) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    flop = 4 * batch * heads * queries * keys * width
    return [
        f"| {', '.join(map(str, sizes))} | {name} | {median(times) * 1e3:.2f} | "
        f"{min(times) * 1e3:.2f} to {max(times) * 1e3:.2f} | {flop / median(times) / 1e9:.0f} | {errors[name]:.1e} |"
        for name, times in seconds.items()
    ]


def _runs(inputs: list[np.ndarray], heads: int, threads: int) -> dict[str, Run]:
    """Everybody, by name. All take float32 [B, N, C] and give it."""
    kernel, width = open_kernel(), inputs[0].shape[2] // heads
    runs = {
        "ONNX Runtime, fp32": _onnxruntime(inputs, heads, threads),
        "OpenVINO, fp32": _compiled(_openvino_model(inputs, heads), inputs, threads, "f32"),
        "OpenVINO, bf16": _compiled(_openvino_model(inputs, heads), inputs, threads, "bf16"),
    }
    for products in PRODUCTS:
        model = _kernel_model(kernel, inputs, heads, width, products)
        runs[f"kernel, {products}"] = _compiled(model, inputs, threads, "bf16", kernel.extension)
    return runs


def _parameters(inputs: list[np.ndarray]) -> list[Any]:
    return [ops.parameter(list(array.shape), openvino.Type.f32) for array in inputs]


def _openvino_model(inputs: list[np.ndarray], heads: int) -> openvino.Model:
    given = _parameters(inputs)
    split = np.array([0, 0, heads, -1], np.int64)
    q, k, v = (ops.transpose(ops.reshape(one, split, True), ORDER) for one in given)
    whole = ops.transpose(ops.scaled_dot_product_attention(q, k, v), ORDER)
    return openvino.Model([ops.reshape(whole, np.array([0, 0, -1]), True).output(0)], given)


def _kernel_model(kernel: CpuAttention, inputs: list[np.ndarray], heads: int, width: int, products: str) -> Any:
    given = _parameters(inputs)
    node = kernel.node(tuple(ops.convert(one, "bf16").output(0) for one in given), heads, width**-0.5, products)
    return openvino.Model([ops.convert(node, "f32").output(0)], given)


def _compiled(model: Any, inputs: list[np.ndarray], threads: int, precision: str, extension: str | None = None) -> Run:
    core = openvino.Core()
    if extension is not None:
        core.add_extension(extension)
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
    }
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    return lambda: next(iter(request.infer(inputs, share_inputs=True, share_outputs=True).values()))


def _onnxruntime(inputs: list[np.ndarray], heads: int, threads: int) -> Run:
    """MatMul, Softmax and MatMul: what an exported graph holds."""
    names = ("query", "key", "value")
    width = inputs[0].shape[2] // heads
    nodes = [
        node
        for name, order in zip(names, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        for node in (
            helper.make_node("Reshape", [name, "split"], [f"{name}.split"]),
            helper.make_node("Transpose", [f"{name}.split"], [f"{name}.heads"], perm=order),
        )
    ]
    nodes += [
        helper.make_node("Mul", ["query.heads", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "key.heads"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "value.heads"], ["weighted"]),
        helper.make_node("Transpose", ["weighted"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "merged"], ["output"]),
    ]
    constants = {
        "split": np.array([0, 0, heads, width], np.int64),
        "merged": np.array([0, 0, heads * width], np.int64),
        "scale": np.float32(width**-0.5),
    }
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip(names, inputs, strict=True)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, inputs[0].shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads))
    return lambda: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def _distance(actual: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(actual - truth) / np.linalg.norm(truth))


if __name__ == "__main__":
    cpu_attention()
