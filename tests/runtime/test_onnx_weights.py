"""Graphs and their weights taken apart: the same graph, the same numbers, and nothing read that is not needed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime.files import onnx_weights
from x2i.runtime.files.onnx_weights import NotApart, graph_and_weights

LARGE = onnx_weights.LEAST_BYTES
RANDOM = np.random.default_rng(3)
TYPES = ("float32", "float16", "int8", "uint8", "int32", "int64", "float64")


def array(dtype: str, count: int) -> np.ndarray:
    return RANDOM.integers(0, 100, (count // 4, 4)).astype(dtype)


def saved(path: Path, *tensors: TensorProto, inputs: tuple[str, ...] = ()) -> Path:
    """A graph that passes every tensor on."""
    nodes = [helper.make_node("Identity", [one.name], [f"{one.name}.out"]) for one in tensors]
    outputs = [helper.make_tensor_value_info(f"{one.name}.out", one.data_type, None) for one in tensors]
    given = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in tensors if one.name in inputs]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", given, outputs, list(tensors))), path)
    return path


def outside(path: Path, tensor: TensorProto, **entries: int | str) -> TensorProto:
    """The tensor with its bytes in a file of their own, behind nine others."""
    raw = tensor.raw_data
    (path.parent / "data").write_bytes(b"123456789" + raw)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "data", "offset": 9, "length": len(raw)} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_large_weights_become_inputs_and_small_ones_stay(tmp_path: Path) -> None:
    arrays = {dtype: array(dtype, LARGE) for dtype in TYPES} | {"small": array("float32", 8)}
    path = saved(tmp_path / "g.onnx", *(numpy_helper.from_array(one, name) for name, one in arrays.items()))
    graph, weights = graph_and_weights(path)
    assert list(weights) == list(TYPES) and len(graph) < LARGE
    for name, weight in weights.items():
        assert weight.dtype == arrays[name].dtype and np.array_equal(weight, arrays[name])
    found = onnx.load_from_string(graph).graph
    (small,) = found.initializer
    assert small.name == "small" and np.array_equal(numpy_helper.to_array(small), arrays["small"])
    expected = [
        helper.make_tensor_value_info(t, helper.np_dtype_to_tensor_dtype(arrays[t].dtype), arrays[t].shape)
        for t in TYPES
    ]
    assert list(found.input) == expected
    assert found.node == onnx.load(path).graph.node and found.output == onnx.load(path).graph.output


def test_weights_in_a_file_of_their_own_are_read_from_there(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    for name, count in (("large", LARGE), ("small", 8)):
        values = array("float32", count)
        saved(path, outside(path, numpy_helper.from_array(values, name)))
        graph, weights = graph_and_weights(path)
        kept = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(graph).graph.initializer}
        assert list(weights if name == "large" else kept) == [name]
        assert np.array_equal((kept | weights)[name], values)


def test_a_graph_behind_a_link_is_read_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    values = array("float32", LARGE)
    saved(tmp_path / "blobs" / "1f0c", numpy_helper.from_array(values, "w"))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "g.onnx").symlink_to(tmp_path / "blobs" / "1f0c")
    _, weights = graph_and_weights(tmp_path / "snapshot" / "g.onnx")
    assert np.array_equal(weights["w"], values)


def test_what_is_not_plain_bytes_stays(tmp_path: Path) -> None:
    values = array("float32", LARGE)
    typed = helper.make_tensor("typed", TensorProto.FLOAT, values.shape, values.ravel())
    told = numpy_helper.from_array(values, "told")
    short = numpy_helper.from_array(values, "short")
    short.raw_data = short.raw_data[:-4]
    path = saved(tmp_path / "g.onnx", typed, told, short, inputs=("told",))
    graph, weights = graph_and_weights(path)
    assert not weights and graph == path.read_bytes()


@pytest.mark.parametrize(
    "entries",
    [{"offset": 10}, {"length": 4}, {"location": "../other"}, {"location": ""}, {"offset": "much"}],
    ids=["beyond the file", "another length", "outside the folder", "nowhere", "no number"],
)
def test_weights_that_lie_otherwise_are_left_to_the_library(tmp_path: Path, entries: dict) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "other").write_bytes(bytes(8 * LARGE))
    path = folder / "g.onnx"
    with pytest.raises(NotApart):
        graph_and_weights(saved(path, outside(path, numpy_helper.from_array(array("float32", LARGE), "w"), **entries)))


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_no_graph_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = saved(tmp_path / "g.onnx", numpy_helper.from_array(array("float32", LARGE), "w"))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(NotApart):
        graph_and_weights(path)


def test_a_constant_in_a_file_of_its_own_keeps_the_graph_whole(tmp_path: Path) -> None:
    """A graph without its folder would look for that file where the process happens to be."""
    constant = outside(tmp_path / "g.onnx", numpy_helper.from_array(array("float32", 64), "inner"))
    nodes = [
        helper.make_node("Constant", [], ["inner"], value=constant),
        helper.make_node("Identity", ["large"], ["out"]),
    ]
    large = numpy_helper.from_array(array("float32", LARGE), "large")
    value = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [], [value], [large])
    (tmp_path / "g.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(NotApart, match="a node that may hold a tensor in another file"):
        graph_and_weights(tmp_path / "g.onnx")
