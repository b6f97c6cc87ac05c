"""From how much work on the kernel is faster than OpenVINO's attention: measured on each machine, and kept."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from ..files.cache import cache_folder, remember, remembered
from ..machine import cpu_identity, usable_cores
from .kernel import Kernel, Sizes

SIZES = ((64, 8, 160), (256, 8, 160), (1024, 8, 80))
"""Rows, heads and width of the attentions that are timed, two samples each: those of Stable Diffusion at 512 x 512 but
the largest, where what is won is more."""
TIMES = 9
"""Runs of each, in turns; the fastest counts, since whatever runs beside it only slows it down."""
MOST_ROUNDS = 3
"""Processes that measure, one each, while the kernel has been slower at one of `SIZES`: on a busy machine it may seem
so. What is kept of a size is the best that was seen."""
KEPT = "cpu-attention.json"
MOST_KEPT, MOST_RATIO = 50, 1e6
_RATIOS: dict[str, list[float]] = {}
_MEASURING = Lock()


def least_work(kernel: Kernel, products: str, threads: int | None, core: Any) -> int | None:
    """The fewest multiplications of an attention that is faster by the kernel; None where none of `SIZES` is.

    About half a second where it is measured; what is kept depends on CPU, threads, and both libraries.
    """
    import openvino

    used = threads or usable_cores()
    key = " ".join(map(str, (cpu_identity(), used, products, openvino.__version__, kernel.source[:12])))
    with _MEASURING:
        if key not in _RATIOS:
            _RATIOS[key] = _kept_ratios(key, lambda: [_ratio(kernel, products, threads, core, *each) for each in SIZES])
    least = None
    for (rows, heads, width), ratio in reversed(list(zip(SIZES, _RATIOS[key], strict=True))):
        if ratio < 1:
            break
        least = 2 * 2 * heads * rows * rows * width
    return least


def _kept_ratios(key: str, measure: Callable[[], list[float]]) -> list[float]:
    """The best that earlier processes have measured, and this one where it is its turn."""
    file = cache_folder() / KEPT
    data = remembered(file)
    kept = data if isinstance(data, dict) else {}
    told = kept.get(key)
    rounds = [found for found in told if _valid(found)] if isinstance(told, list) else []
    if not rounds or (len(rounds) < MOST_ROUNDS and min(_best(rounds)) < 1):
        rounds.append(measure())
        remember(file, dict(list(kept.items())[1 - MOST_KEPT :]) | {key: rounds})
    return _best(rounds)


def _best(rounds: list[list[float]]) -> list[float]:
    return [max(ratios) for ratios in zip(*rounds, strict=True)]


def _valid(ratios: Any) -> bool:
    if not isinstance(ratios, list) or len(ratios) != len(SIZES):
        return False
    return all(isinstance(ratio, int | float) and 0 < ratio < MOST_RATIO for ratio in ratios)


def _ratio(kernel: Kernel, products: str, threads: int | None, core: Any, rows: int, heads: int, width: int) -> float:
    """Time of the library's attention over that of the kernel, both in a model that is computed in bfloat16."""
    properties: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
    if threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    models = [_model(rows, heads, width) for _ in range(2)]
    replaced, _ = kernel.replace(models[1], products, True, _always)
    assert len(replaced) == 1, "the kernel does not know the attention that it is measured with"
    requests = [core.compile_model(model, "CPU", properties).create_infer_request() for model in models]
    generator = np.random.default_rng(0)
    inputs = [generator.standard_normal((2, rows, heads * width), np.float32) for _ in range(3)]
    seconds: list[list[float]] = [[], []]
    for _ in range(TIMES):
        for request, times in zip(requests, seconds, strict=True):
            start = time.perf_counter()
            request.infer(inputs, share_inputs=True)
            times.append(time.perf_counter() - start)
    library, own = map(min, seconds)
    return library / own


def _always(sizes: Sizes) -> bool:
    return True


def _model(rows: int, heads: int, width: int) -> Any:
    """Attention as torch's exporter writes it, between two additions, so that no input or output is its own."""
    import openvino
    from openvino import opset13 as ops

    given = [ops.parameter([2, rows, heads * width], openvino.Type.f32) for _ in range(3)]
    split = np.array([0, 0, heads, -1], np.int64), np.array([0, 2, 1, 3], np.int64)
    q, k, v = (ops.transpose(ops.reshape(ops.add(one, np.float32(0.5)), split[0], True), split[1]) for one in given)
    scores = ops.matmul(ops.multiply(q, np.float32(width**-0.5)), k, False, True)
    weighted = ops.transpose(ops.matmul(ops.softmax(scores, 3), v, False, False), split[1])
    output = ops.add(ops.reshape(weighted, np.array([0, 0, -1], np.int64), True), np.float32(0.5))
    return openvino.Model([output.output(0)], given)
