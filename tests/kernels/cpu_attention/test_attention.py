"""The kernel against float64, beside OpenVINO's own attention in bfloat16, on random data and on what is hard."""

import os
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from x2i.kernels.cpu_attention.library import Library
from x2i.kernels.cpu_attention.openvino_op import PRODUCTS, CpuAttention
from x2i.kernels.cpu_attention.reference import reference_attention, reference_injected

from tests.made_once import ROOT
from tests.numerics import assert_close, assert_near
from tests.processes import run

LIBRARY_BF16 = "OpenVINO's bfloat16"


@dataclass(frozen=True)
class Case:
    """Sizes of an attention; `logits` is their standard deviation, `bias` a constant that is added to every key."""

    queries: int
    keys: int
    heads: int
    width: int
    batch: int = 1
    second: int = 0
    logits: float = 1.0
    bias: float = 0.0
    strong: bool = False

    def inputs(self) -> list[np.ndarray]:
        """query, key and value, and where there is a second attention its keys and values."""
        generator = np.random.default_rng(self.queries + self.keys)
        rows = (self.queries, self.keys, self.keys, *([self.second] * 2 if self.second else []))
        made = [generator.standard_normal((self.batch, n, self.heads * self.width)).astype(np.float32) for n in rows]
        made[0] *= self.logits
        made[1] += self.bias * generator.standard_normal(self.heads * self.width).astype(np.float32)
        if self.strong:
            # A few keys that most queries see, as trained attention has them, late among the others.
            made[1][:, -3:] *= 6
        return made


PLAIN = (
    Case(256, 256, 8, 40, batch=2),
    Case(65, 77, 3, 7),
    Case(1, 1, 1, 1, batch=2),
    Case(130, 97, 2, 80),
    Case(64, 300, 2, 160),
    Case(31, 5, 2, 64, batch=2),
    Case(100, 192, 1, 512),
    Case(1000, 1000, 2, 40),
    Case(200, 200, 2, 40, logits=4),
    Case(200, 200, 2, 40, bias=20),
    Case(200, 200, 2, 40, strong=True),
    Case(97, 193, 2, 33, bias=3, strong=True),
)
EXTREME = Case(200, 200, 2, 40, logits=200)
INJECTED = Case(70, 77, 4, 40, batch=3, second=257)
TOKEN, STRENGTH = np.array([5, -1, 76], np.int32), np.array([0.7, 1.3, 0], np.float32)


@cache
def kernel(folder: Path) -> CpuAttention:
    return CpuAttention(Library(folder / "x2i_attention.so", "tested"))


def drawn(folder: Path, case: Case, products: str, inputs: list[np.ndarray], threads: int = 2, bf16: bool = False):
    """What the operation gives alone in a model, from float32 or by way of bfloat16."""
    given = [ops.parameter(list(array.shape), openvino.Type(array.dtype)) for array in inputs]
    tensors = [one.output(0) for one in given]
    if bf16:
        tensors[:5] = [ops.convert(one, "bf16").output(0) for one in tensors[:5]]
    made = kernel(folder).node(tuple(tensors), case.heads, case.width**-0.5, products)
    model = openvino.Model([ops.convert(made, "f32").output(0)], given)
    core = openvino.Core()
    core.add_extension(kernel(folder).extension)
    return core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})(inputs)[0]


def by_openvino(case: Case, inputs: list[np.ndarray]) -> np.ndarray:
    """OpenVINO's own fused attention in bfloat16."""
    given = [ops.parameter(list(array.shape), openvino.Type.f32) for array in inputs]
    order = np.array([0, 2, 1, 3])
    heads = [ops.transpose(ops.reshape(one, np.array([0, 0, case.heads, -1]), True), order) for one in given]
    whole = ops.transpose(ops.scaled_dot_product_attention(*heads), order)
    model = openvino.Model([ops.reshape(whole, np.array([0, 0, -1]), True).output(0)], given)
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})(inputs)[0]


def truth(case: Case, inputs: list[np.ndarray]) -> np.ndarray:
    return reference_attention(*(array.astype(np.float64) for array in inputs), case.heads)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_bf16_errs_no_more_than_twice_the_librarys(compiled_kernel: Path, case: Case) -> None:
    inputs = case.inputs()
    expected, peer = truth(case, inputs), by_openvino(case, inputs)
    assert_near(drawn(compiled_kernel, case, "bf16", inputs), expected, LIBRARY_BF16, peer)
    assert_near(drawn(compiled_kernel, case, "bf16", inputs, bf16=True), expected, LIBRARY_BF16, peer, factor=3)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_int8(compiled_kernel: Path, case: Case) -> None:
    inputs = case.inputs()
    assert_near(drawn(compiled_kernel, case, "int8", inputs), truth(case, inputs), "attention-int8")


@pytest.mark.parametrize("products", PRODUCTS)
def test_extreme_logits_stay_numbers(compiled_kernel: Path, products: str) -> None:
    inputs = EXTREME.inputs()
    assert_near(drawn(compiled_kernel, EXTREME, products, inputs), truth(EXTREME, inputs), "attention-extreme")


@pytest.mark.parametrize("products", PRODUCTS)
def test_logits_beyond_float32_end(compiled_kernel: Path, products: str) -> None:
    """A model that has run away: the maximum can be raised no further, and what comes is no number."""
    case = Case(64, 100, 1, 40)
    inputs = case.inputs()
    huge = [inputs[0] * np.float32(3e4), inputs[1] * np.float32(3e4), inputs[2]]
    assert drawn(compiled_kernel, case, products, huge).shape == inputs[0].shape
    assert not np.isfinite(drawn(compiled_kernel, case, products, [huge[0] * 1e4, huge[1] * 1e4, huge[2]])).all()


@pytest.mark.parametrize("changed", ["token", "no keys", "samples", "numbers"])
def test_a_call_that_fits_nothing_gives_no_number(compiled_kernel: Path, changed: str) -> None:
    inputs = [*INJECTED.inputs(), TOKEN, STRENGTH]
    if changed == "token":
        inputs[5] = np.array([5, -1, 77], np.int32)
    elif changed == "no keys":
        inputs[1] = inputs[2] = np.zeros((3, 0, 160), np.float32)
    elif changed == "samples":
        inputs[1], inputs[2] = inputs[1][:1], inputs[2][:1]
    else:
        inputs[6] = inputs[6][:1]
    assert np.isnan(drawn(compiled_kernel, INJECTED, "bf16", inputs)).all()


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("which", range(3))
def test_what_is_no_number_is_seen(compiled_kernel: Path, products: str, which: int) -> None:
    """A run that has run away must be refused, not drawn: bytes could hide it."""
    case = Case(70, 70, 2, 40)
    inputs = case.inputs()
    inputs[which][0, 3, 5] = np.nan
    assert np.isnan(drawn(compiled_kernel, case, products, inputs)[0, 3, 5])


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("bf16", [False, True])
def test_injected_form(compiled_kernel: Path, products: str, bf16: bool) -> None:
    inputs = [*INJECTED.inputs(), TOKEN, STRENGTH]
    wide = [array.astype(np.float64) for array in inputs[:5]]
    expected = reference_injected(*wide, TOKEN, STRENGTH, INJECTED.heads)
    tolerance = "attention-int8" if products == "int8" else "attention-bf16"
    assert_near(drawn(compiled_kernel, INJECTED, products, inputs, bf16=bf16), expected, tolerance)


@pytest.mark.parametrize("products", PRODUCTS)
def test_every_input_counts(compiled_kernel: Path, products: str) -> None:
    inputs = [*INJECTED.inputs(), TOKEN, STRENGTH]
    before = drawn(compiled_kernel, INJECTED, products, inputs)
    for number in range(7):
        changed = [array.copy() for array in inputs]
        changed[number][0] = changed[number][0] + 1 if number in (0, 1, 3, 5) else changed[number][0] * 2
        if number in (1, 3):
            # A constant in all keys moves no probability.
            changed[number][0, ::2] *= 2
        after = drawn(compiled_kernel, INJECTED, products, changed)
        assert np.abs(after[0] - before[0]).max() > 1e-3, number
        assert_close(after[1:], before[1:], "exact")


@pytest.mark.parametrize("products", PRODUCTS)
def test_no_strength_is_the_attention_alone(compiled_kernel: Path, products: str) -> None:
    """Even where the second values are no numbers, or no query sees the token."""
    inputs = [*INJECTED.inputs(), TOKEN, np.zeros(3, np.float32)]
    inputs[4][:] = np.inf
    alone = drawn(compiled_kernel, replace(INJECTED, second=0), products, inputs[:3])
    assert_close(drawn(compiled_kernel, INJECTED, products, inputs), alone, "exact")


@pytest.mark.parametrize("products", PRODUCTS)
def test_threads_and_neighbours_change_nothing(compiled_kernel: Path, products: str) -> None:
    case = Case(300, 300, 4, 40, batch=3)
    inputs = case.inputs()
    together = drawn(compiled_kernel, case, products, inputs)
    assert_close(drawn(compiled_kernel, case, products, inputs, threads=1), together, "exact")
    alone = drawn(compiled_kernel, replace(case, batch=1), products, [array[1:2] for array in inputs])
    assert_close(alone, together[1:2], "exact")


PINNED = """
import os, sys
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.kernels.cpu_attention.test_attention import Case, drawn
case = Case(500, 500, 4, 40)
drawn(Path(sys.argv[1]), case, "bf16", case.inputs())
print({frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")} == {frozenset(
    os.sched_getaffinity(0))}, len(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
def test_threads_stay_where_the_caller_has_pinned_them(compiled_kernel: Path) -> None:
    """As by `taskset`: the kernel has none of its own, and OpenVINO's are within what the process may use."""
    told = run(sys.executable, "-c", PINNED, compiled_kernel, cwd=ROOT, PYTHONPATH=str(ROOT))
    assert told.stdout.split() == ["True", "1"]
