"""What this machine reaches at most: a large product on the backend itself, and a copy."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..machine import usable_cores
from ..sessions.backends import open_session
from ..sessions.session import GraphFile, Settings
from .record import Rates

SIDE, COPIED, TIMES = 1024, 64_000_000, 9
"""Rows and columns of the matrices, bytes that each thread copies, and how often: the fastest counts."""
FOLDER = Path(__file__).parent


def measured_rates(backend: str, threads: int | None, precision: Collection[str]) -> Rates:
    """A matrix product in float32, and for a quantized bundle in int8, and in bfloat16 on OpenVINO, which takes that
    between quantized operators where the processor has it. numpy's product where the backend opens no such graph."""
    graphs = {"fp32": GraphFile("matmul", FOLDER / "matmul.onnx")}
    quantized = [name for name in precision if name.startswith("int8") and name != "int8-weights"]
    if quantized:
        graphs["int8"] = GraphFile("matmul_int8", FOLDER / "matmul_int8.onnx", "int8")
    if backend.startswith("openvino") and {"int8", "bf16"} & {*precision} and _has_bf16():
        graphs["bf16"] = GraphFile("matmul", FOLDER / "matmul.onnx", "int8")
    used = threads or usable_cores()
    where = f"the fastest of {TIMES} on {used} threads"
    try:
        products = {kind: _product(backend, graph, threads) for kind, graph in graphs.items()}
        how = f"a product of {SIDE}x{SIDE} matrices by {backend} itself, {where}"
    except InputError:
        products = {"fp32": _numpy_product()}
        how = f"a product of {SIDE}x{SIDE} float32 matrices by numpy on the CPU, {where}"
    return Rates(products, _copy(used), f"{how}; a copy counts what is read and what is written")


def _has_bf16() -> bool:
    from ..sessions import openvino_device

    return "BF16" in openvino_device.capabilities("CPU")


def _product(backend: str, graph: GraphFile, threads: int | None) -> float:
    session = open_session(backend, graph, Settings(threads, "library"))
    arrays = {tensor.name: np.ones((SIDE, SIDE), np.float32) for tensor in session.inputs}
    return 2 * SIDE**3 / _fastest(lambda: session(**arrays))


def _numpy_product() -> float:
    one = np.ones((SIDE, SIDE), np.float32)
    return 2 * SIDE**3 / _fastest(lambda: one @ one)


def _copy(threads: int) -> float:
    pairs = [(np.ones(COPIED // 4, np.float32), np.empty(COPIED // 4, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPIED * threads / _fastest(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))


def _fastest(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
