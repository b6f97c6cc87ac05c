"""Whatever a caller gives a session, what comes back is the outputs or lines that say what was expected."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import backends
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession
from x2i.runtime.sessions.onnxruntime_cuda import OnnxRuntimeCudaSession

Call = Callable[..., dict[str, np.ndarray]]
GOOD = {"rows": np.ones((2, 3), np.float32), "ids": np.ones((2, 3), np.int64)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """rows + ids, which must have the same batch."""
    inputs = [
        helper.make_tensor_value_info(name, dtype, ["batch", 3])
        for name, dtype in (("rows", TensorProto.FLOAT), ("ids", TensorProto.INT64))
    ]
    nodes = [helper.make_node("Cast", ["ids"], ["cast"], to=1), helper.make_node("Add", ["rows", "cast"], ["sum"])]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 3])
    opset = [helper.make_opsetid("", 18)]
    made = helper.make_model(helper.make_graph(nodes, "sum", inputs, [output]), opset_imports=opset, ir_version=9)
    onnx.save(made, tmp_path / "sum.onnx")
    return tmp_path / "sum.onnx"


@pytest.fixture(params=["cpu", "on a device"])
def call(path: Path, request: pytest.FixtureRequest) -> Call:
    if request.param == "cpu":
        return OnnxRuntimeSession(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return OnnxRuntimeCudaSession(session, captures=False, device="cpu")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"rows": np.ones((2, 4), np.float32)}, "rows: expected float32 [batch, 3], got float32 [2, 4]"),
        ({"rows": np.ones((2, 3, 1), np.float32)}, "rows: expected float32 [batch, 3], got float32 [2, 3, 1]"),
        ({"rows": np.ones((2, 3))}, "rows: expected float32 [batch, 3], got float64 [2, 3]"),
        ({"ids": np.ones((2, 3), np.float32)}, "ids: expected int64 [batch, 3], got float32 [2, 3]"),
        ({"ids": np.full((2, 3), None)}, "ids: expected int64 [batch, 3], got object [2, 3]"),
        ({"ids": np.full((2, 3), "a")}, "ids: expected int64 [batch, 3], got <U1 [2, 3]"),
        ({"rows": np.ones((2, 3), np.uint16)}, "rows: expected float32 [batch, 3], got uint16 [2, 3]"),
        ({"rows": np.ones((2, 3), np.complex64)}, "rows: expected float32 [batch, 3], got complex64 [2, 3]"),
        ({"other": np.ones(2, np.float32)}, "other: expected an input of the graph, got another name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_input_that_does_not_fit_is_named(call: Call, wrong: dict[str, np.ndarray], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        call(**GOOD | wrong)
    assert refused.value.problems[0].startswith(expected + "; "), refused.value
    np.testing.assert_array_equal(call(**GOOD)["sum"], np.full((2, 3), 2, np.float32))


def test_an_input_that_is_missing_is_named(call: Call) -> None:
    with pytest.raises(InputError, match=r"^ids: expected int64 \[batch, 3\], got nothing"):
        call(rows=GOOD["rows"])


def test_two_sizes_that_do_not_go_together_are_told_with_the_library(call: Call) -> None:
    with pytest.raises(InputError, match=r"^ONNX Runtime failed on .*rows \[5, 3\].*smaller size or count$"):
        call(rows=np.ones((5, 3), np.float32), ids=GOOD["ids"])


def test_every_name_in_the_table_of_backends_is_there() -> None:
    """They are imported when they are first called: a name that is wrong would be found by a user."""
    for backend in backends.BACKENDS.values():
        for function in (backend.present, backend.problem, backend.open, backend.prepared):
            known = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
            if {"module", "function"} <= known.keys():
                module = backends.import_module(f"x2i.runtime.sessions.{known['module'].cell_contents}")
                assert callable(getattr(module, known["function"].cell_contents))
