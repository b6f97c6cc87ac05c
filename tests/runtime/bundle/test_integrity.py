"""What a graph reads is what the manifest lists, at the moment it is read; and a manifest that decodes can be drawn."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime import InputError, load
from x2i.runtime.bundle import external_data
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.bundle.external_data import external_data_names
from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.bundle.reader import file_record, open_bundle
from x2i.runtime.bundle.records import encode
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.cli import main

from tests.numerics import assert_close
from tests.runtime.toy import edit_manifest, plan, write_toy

WORDS = {"language": "French", "steps": 1, "size": (16, 16)}


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def outward(tensor: TensorProto, name: str) -> None:
    """Has a tensor's values read from a file, as ONNX's exporters do."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"offset": "0", "location": name}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def graphs_with_data() -> dict[str, onnx.ModelProto]:
    """A tensor outside, at every place where a graph may have one."""

    def value() -> TensorProto:
        tensor = numpy_helper.from_array(np.zeros((20, 20), np.float32), "w")
        outward(tensor, "weights.bin")
        return tensor

    inputs, outputs = [helper.make_tensor_value_info("x", 1, [20])], [helper.make_tensor_value_info("y", 1, [20, 20])]

    def model(nodes: list[Any], initializers: tuple[TensorProto, ...] = (), **rest: Any) -> onnx.ModelProto:
        graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers), **rest)
        return helper.make_model(graph)

    constant = helper.make_node("Constant", [], ["y"], value=value())
    inner = helper.make_graph([constant], "inner", [], outputs)
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    sparse = helper.make_sparse_tensor(value(), numpy_helper.from_array(np.zeros(1, np.int64), "i"), [20, 20])
    function = helper.make_function("x2i", "F", ["x"], ["y"], [constant], [helper.make_opsetid("", 17)])
    with_function = model([helper.make_node("F", ["x"], ["y"], domain="x2i")])
    with_function.functions.append(function)
    return {
        "initializer": model([helper.make_node("Identity", ["w"], ["y"])], (value(),)),
        "constant": model([constant]),
        "branch": model([branch]),
        "sparse": model([helper.make_node("Identity", ["w"], ["y"])], sparse_initializer=[sparse]),
        "function": with_function,
    }


@pytest.mark.parametrize("searched", [external_data._SEARCHED, 0])
@pytest.mark.parametrize("place", graphs_with_data())
def test_data_outside_is_found(place: str, searched: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside small parts by a search, and beside large ones by a walk."""
    monkeypatch.setattr(external_data, "_SEARCHED", searched)
    (tmp_path / "g.onnx").write_bytes(graphs_with_data()[place].SerializeToString())
    assert external_data_names(tmp_path / "g.onnx") == ["weights.bin"]


def test_the_word_alone_is_no_data(tmp_path: Path) -> None:
    """A node's name and a text may hold it."""
    node = helper.make_node("Identity", ["x"], ["y"], name="location", doc_string="location")
    ends = [helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "location", ends[:1], ends[1:]))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    assert external_data_names(tmp_path / "g.onnx") == []
    for damage in (b"location", b"\x3a\xff\xff\xff\xff\x0flocation", b"\x0blocation"):
        (tmp_path / "g.onnx").write_bytes(damage)
        with pytest.raises(InputError, match="expected an ONNX graph, got a damaged file"):
            external_data_names(tmp_path / "g.onnx")


def with_outside_data(bundle: Path, listed: bool) -> np.ndarray:
    """Moves a weight of the projection out of its graph, by a name in the manifest or without; returns its values."""
    path = bundle / "projection.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = np.frombuffer(weight.raw_data, np.float32).copy()
    (bundle / "weights.bin").write_bytes(weight.raw_data)
    outward(weight, "weights.bin")
    path.write_bytes(model.SerializeToString())

    def edit(data: dict[str, Any]) -> None:
        data["files"]["projection.onnx"] = encode(file_record(path))
        if listed:
            data["files"]["weights.bin"] = encode(file_record(bundle / "weights.bin"))
            data["graphs"]["projection"]["data"] = ["weights.bin"]

    edit_manifest(bundle, edit)
    return values


@pytest.mark.parametrize("words", [("run", "--language", "French"), ("verify",), ("build", "--for", "cpu")])
def test_data_that_is_not_listed_is_refused(words: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    with_outside_data(bundle, listed=False)
    prompt = ["a"] if words[0] == "run" else []
    result = CliRunner().invoke(main, [words[0], str(bundle), *prompt, *words[1:]])
    assert result.exit_code == 2 and "reads 'weights.bin', which the manifest does not list for it" in result.stderr


def exchange(path: Path, content: bytes, inside: bool) -> None:
    """Puts a file of the same size and time in another's place, or other bytes into it."""
    stat = path.stat()
    if inside:
        path.write_bytes(content)
    else:
        (other := path.with_suffix(".other")).write_bytes(content)
        os.replace(other, path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("inside", [False, True], ids=["another file", "other bytes"])
@pytest.mark.parametrize("limit", [None, "1GB"], ids=["kept open", "opened in turns"])
def test_a_file_exchanged_between_two_calls(limit: str | None, inside: bool, bundle: Path) -> None:
    values = with_outside_data(bundle, listed=True)
    pipeline = load(bundle, "cpu", max_memory=limit)
    first = pipeline("a", **WORDS).latents
    assert_close(pipeline("a", **WORDS).latents, first, "exact")
    exchange(bundle / "weights.bin", (values * 2).tobytes(), inside)
    with pytest.raises(InputError, match=r"weights\.bin: altered: expected sha256"):
        pipeline("a", **WORDS)
    exchange(bundle / "weights.bin", values.tobytes(), inside)
    assert_close(pipeline("a", **WORDS).latents, first, "exact")


def test_a_language_that_is_opened_late(bundle: Path) -> None:
    pipeline = load(bundle, "cpu")
    late = next(name for name in pipeline.bundle.manifest.graphs if name.startswith("translator.") and "Fr" not in name)
    content = (bundle / f"{late}.onnx").read_bytes()
    pipeline("a", **WORDS)
    exchange(bundle / f"{late}.onnx", content[:-1] + bytes([content[-1] ^ 1]), inside=False)
    pipeline("a", **WORDS)
    with pytest.raises(InputError, match="altered"):
        pipeline("a", **WORDS | {"language": late.partition(".")[2]})


def test_tensors_are_those_of_the_manifest(bundle: Path) -> None:
    def lie(data: dict[str, Any]) -> None:
        (tensor,) = [one for one in data["graphs"]["decoder"]["outputs"] if one["name"] == "image"]
        tensor["dtype"] = "float16"

    edit_manifest(bundle, lie)
    with pytest.raises(InputError, match="not what the manifest says: output image: expected float16"):
        load(bundle, "cpu")


def set_to(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, key, value = path

    def edit(data: dict[str, Any]) -> None:
        for step in way:
            data = data[step]
        data[key] = value

    return edit


TEXT = ("plan", "conditioners", 0, "text")
STAGE = ("plan", "conditioners", 0, "stages", 0)
DECODER = ("plan", "processes", 0, "decoder")
SENSELESS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no tokens": set_to(*TEXT, "window", 0),
    "endless window": set_to(*TEXT, "window", 2**31 - 1),
    "negative pad": set_to(*TEXT, "pad_id", -1),
    "huge pad": set_to(*TEXT, "pad_id", 2**40),
    "no channels": set_to(*DECODER, "channels", 0),
    "many channels": set_to(*DECODER, "channels", 2**31 - 1),
    "other channels": set_to(*DECODER, "channels", 5),
    "factor": set_to(*DECODER, "factor", 3),
    "multiple": set_to(*DECODER, "size_multiple", 12),
    "size": set_to(*DECODER, "size", [17, 16]),
    "huge size": set_to(*DECODER, "size", [65536, 65536]),
    "late start": set_to("plan", "processes", 0, "segments", 0, "from_timestep", 10),
    "before all": set_to("plan", "processes", 0, "segments", 0, "from_timestep", -1e29),
    "no context": set_to("plan", "processes", 0, "segments", 0, "context", {}),
    "a stage's input": set_to(*STAGE, "inputs", {"input_ids": "input_ids"}),
    "another input": set_to(*STAGE, "inputs", {"input_ids": "input_ids", "nothing": "input_ids"}),
    "another output": set_to(*STAGE, "outputs", {"nothing": "features"}),
    "guidance": set_to("plan", "processes", 0, "guidance", {"scale": 1e300}),
    "revision": set_to("revision", -5),
    "revision 0": set_to("revision", 0),
    "no revision": set_to("revision", True),
    "dtype": set_to("graphs", "decoder", "outputs", 0, "dtype", "float33"),
    "rank": set_to("graphs", "decoder", "outputs", 0, "shape", [1, 2]),
    "negative shape": set_to("graphs", "decoder", "outputs", 0, "shape", ["b", -3, "h", "w"]),
    "no tensors": set_to("graphs", "denoiser", "inputs", []),
    "bytes": set_to("files", "decoder.onnx", "bytes", -1),
    "sha256": set_to("files", "decoder.onnx", "sha256", "x"),
    "a folder outside": set_to("files", "../a", {"bytes": 0, "sha256": "0" * 64}),
    "an absolute name": set_to("files", "/a", {"bytes": 0, "sha256": "0" * 64}),
    "an end of line": set_to("files", "a\nb", {"bytes": 0, "sha256": "0" * 64}),
    "a NUL": set_to("files", "a\0b", {"bytes": 0, "sha256": "0" * 64}),
    "no name": set_to("files", "", {"bytes": 0, "sha256": "0" * 64}),
    "an IR": set_to("graphs", "decoder", "file", "tokenizer.json"),
    "gate": set_to("graphs", "decoder", "measured", {"error": -1.0, "gate": 1.0}),
    "a choice": set_to(*STAGE, "graph", "encoder{0}"),
    "a field": set_to(*STAGE, "graph", "{language.__class__}"),
}


@pytest.mark.parametrize("kind", SENSELESS)
def test_what_is_senseless_is_refused_at_decode(kind: str, bundle: Path) -> None:
    edit_manifest(bundle, SENSELESS[kind])
    with pytest.raises(InputError) as refused:
        open_bundle(bundle, check_files=False)
    assert all(line.isprintable() and len(line) < 1000 for line in refused.value.problems)


@pytest.mark.parametrize("name", ["a/b", "..", "a\0", "a*", "{x}", "", "a" * 300, "a\n"])
def test_odd_names_of_graphs(name: str, tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data["graphs"].update({name: data["graphs"]["decoder"]}))
    with pytest.raises(InputError, match="expected a name of letters"):
        open_bundle(folder)


def test_a_key_twice(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"system":', '"system": "elite", "system":', 1), "utf-8")
    with pytest.raises(InputError, match="the key 'system' twice"):
        open_bundle(bundle)


def test_what_cannot_be_read_again_is_not_published(tmp_path: Path) -> None:
    """A manifest is strictly JSON, and within its own ranges."""
    for error in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError), new_bundle(tmp_path / "toy") as folder:
            (folder / "a.onnx").write_bytes(b"")
            tensors = (Tensor("x", "float32", (1,)),)
            graph = Graph("a.onnx", tensors, tensors, "fp32", Measured(error, 1.0))
            write_manifest(folder, Manifest("toy", plan(), {"a": graph}, file_records(folder)))
        assert not list(tmp_path.iterdir())
    json.loads((write_toy(tmp_path / "toy") / "manifest.json").read_text("utf-8"), parse_constant=pytest.fail)
