"""Bad graphs, engines and tokenizers in bundles whose digests are right: what a stranger may send."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime.bundle.reader import open_bundle

from .case import Case
from .held import Command, refused_or_drawn
from .manifests import places, wrongs
from .media import cut, flipped
from .room import Room
from .systems import SYSTEMS, drawing

SYSTEM = "gluegen-text"
GRAPHS = ("encoder", "translator.French", "projection", "denoiser", "decoder")


def graph_cases() -> Iterator[Case]:
    """Every graph of the text bundle damaged, and changed where ONNX can say what is wrong."""
    for graph in GRAPHS:
        content = (SYSTEMS[SYSTEM].source() / f"{graph}.onnx").read_bytes()
        damaged = cut(content, 8) | flipped(content, 25, len(graph))
        damaged |= {"text": lambda: b"not a graph", "zeros": lambda: bytes(5000)}
        for name, make in damaged.items():
            yield _replaced("graph", f"{graph} {name}", f"{graph}.onnx", make)
        for name, change in CHANGES.items():
            yield _replaced("graph", f"{graph} {name}", f"{graph}.onnx", partial(_changed, graph, change))
    for name, change in OUTSIDE.items():
        make = partial(_changed, "projection", change)
        yield _replaced("graph", f"projection {name}", "projection.onnx", make, must_refuse=True)
    for precision in ("fp16", "int8-weights"):
        for name, change in (CHANGES | SCOPED).items():
            make = partial(_changed, "decoder", change)
            yield _replaced(
                "graph", f"decoder {name}, lowered to {precision}", "decoder.onnx", make, command=_lowering(precision)
            )


def _lowering(precision: str) -> Callable[[Room], Command]:
    """Writes the decoder alone in another precision."""
    trial = ("--trial-steps", "1", "--trial-size", "32x32", "--precision", f"decoder={precision}")

    def lowering(room: Room) -> Command:
        made = room.work / "made"
        return Command(["lower", str(room.bundle(SYSTEM)), str(made), *trial], may_write=[f"{made}*"])

    return lowering


def _replaced(
    kind: str,
    name: str,
    file: str,
    make: Callable[[], bytes],
    *more: str,
    must_refuse: bool = False,
    command: Callable[[Room], Command] | None = None,
) -> Case:
    """A file of the bundle replaced, its digest right; then a command, which draws unless another is given."""

    def attempt(room: Room) -> str | None:
        bundle, content = room.bundle(SYSTEM), make()
        manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
        manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (room.work / "weights.bin").write_bytes(bytes(1 << 20))
        with room.replaced(bundle, {file: content, "manifest.json": json.dumps(manifest).encode()}):
            if command is not None:
                return refused_or_drawn(room, command(room))
            return refused_or_drawn(room, drawing(room, SYSTEM, *more, must_refuse=must_refuse))

    return Case(kind, name, attempt)


@cache
def _model(graph: str) -> bytes:
    return (SYSTEMS[SYSTEM].source() / f"{graph}.onnx").read_bytes()


def _changed(graph: str, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(_model(graph))
    change(model)
    return model.SerializeToString()


def _input_type(model: onnx.ModelProto, kind: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = kind


def _input_shape(model: onnx.ModelProto, *sizes: int | str) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        dimension = shape.dim.add()
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size


def _rename(values: Any, name: str) -> None:
    values[0].name = name


def _operator(model: onnx.ModelProto, domain: str, kind: str) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = domain, kind
    model.opset_import.append(helper.make_opsetid(domain, 1))


def _weights(model: onnx.ModelProto) -> onnx.TensorProto:
    return max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())


def _fill(model: onnx.ModelProto, value: float) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, value), tensor.name))


def _dims(model: onnx.ModelProto, *sizes: int) -> None:
    tensor = _weights(model)
    del tensor.dims[:]
    tensor.dims.extend(sizes)


def _output_of(model: onnx.ModelProto, kind: str, **attributes: Any) -> None:
    """The first output goes through one more node."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if output == name else output for output in node.output]
    model.graph.node.append(helper.make_node(kind, ["inner"], [name], **attributes))


def _tile(model: onnx.ModelProto, times: int) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.full(1, times), "times"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "one"))
    model.graph.node.append(helper.make_node("Tile", ["one", "times"], ["much"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0))
    name = model.graph.output[0].name
    for node in model.graph.node[:-2]:
        node.output[:] = ["inner" if output == name else output for output in node.output]
    model.graph.node.append(helper.make_node("Add", ["inner", "sum"], [name]))


def _recursion(model: onnx.ModelProto) -> None:
    inner = helper.make_node("Again", ["x"], ["y"], domain="own")
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("own", "Again", ["x"], ["y"], [inner], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    _output_of(model, "Again", domain="own")


def _odd_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "\x1b[31m\n" + "n" * 3000


def _metadata(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {"\x1b[31m": "v" * 1_000_000})
    model.doc_string = "\x07" * 1_000_000


CHANGES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "input of halves": lambda model: _input_type(model, TensorProto.FLOAT16),
    "input of doubles": lambda model: _input_type(model, TensorProto.DOUBLE),
    "input of texts": lambda model: _input_type(model, TensorProto.STRING),
    "input of no type": lambda model: _input_type(model, 0),
    "input of an unknown type": lambda model: _input_type(model, 99),
    "input without axes": _input_shape,
    "input of other sizes": lambda model: _input_shape(model, 3, 5),
    "input of huge sizes": lambda model: _input_shape(model, 2**40, 2**40),
    "input of negative sizes": lambda model: _input_shape(model, -1, -77),
    "input of odd sizes": lambda model: _input_shape(model, "\x1b[31m", "a*b", "__import__('os')"),
    "input of another name": lambda model: _rename(model.graph.input, "other"),
    "input of an odd name": lambda model: _rename(model.graph.input, "\x1b[31m\n" + "n" * 3000),
    "output of another name": lambda model: _rename(model.graph.output, "other"),
    "no inputs": lambda model: model.graph.ClearField("input"),
    "no outputs": lambda model: model.graph.ClearField("output"),
    "no nodes": lambda model: model.graph.ClearField("node"),
    "no weights": lambda model: model.graph.ClearField("initializer"),
    "no graph": lambda model: model.ClearField("graph"),
    "no operator sets": lambda model: model.ClearField("opset_import"),
    "operator sets to come": lambda model: setattr(model.opset_import[0], "version", 9999),
    "a negative operator set": lambda model: setattr(model.opset_import[0], "version", -1),
    "a format to come": lambda model: setattr(model, "ir_version", 9999),
    "an unknown operator": lambda model: _operator(model, "", "Nothing"),
    "an unknown domain": lambda model: _operator(model, "nobody", "Nothing"),
    "an odd operator": lambda model: _operator(model, "\x1b[31m", "\n" + "n" * 3000),
    "an operator that calls Python": lambda model: _operator(model, "ai.onnx.contrib", "PyOp"),
    "nodes in another order": lambda model: model.graph.node.reverse(),
    "a circle": lambda model: model.graph.node[0].input.append(model.graph.output[0].name),
    "a node twice": lambda model: model.graph.node.append(model.graph.node[0]),
    "weights that are NaN": lambda model: _fill(model, np.nan),
    "weights that are infinite": lambda model: _fill(model, np.inf),
    "weights that are huge": lambda model: _fill(model, 1e38),
    "weights that are zero": lambda model: _fill(model, 0.0),
    "weights of another size": lambda model: _dims(model, 3, 5),
    "weights of a huge size": lambda model: _dims(model, 2**40, 2**20),
    "weights of a size past all numbers": lambda model: _dims(model, 2**62, 2**62),
    "weights of a negative size": lambda model: _dims(model, -4),
    "weights without their bytes": lambda model: _weights(model).ClearField("raw_data"),
    "weights of an unknown type": lambda model: setattr(_weights(model), "data_type", 77),
    "output of halves": lambda model: _output_of(model, "Cast", to=TensorProto.FLOAT16),
    "output of texts": lambda model: _output_of(model, "Cast", to=TensorProto.STRING),
    "output of numbers": lambda model: _output_of(model, "Size"),
    "output of a sequence": lambda model: _output_of(model, "SequenceConstruct"),
    "output of another shape": lambda model: _output_of(model, "Flatten"),
    "a tensor of 100 GB": lambda model: _tile(model, 25_000_000_000),
    "a function that calls itself": _recursion,
    "odd names": _odd_names,
    "a megabyte of metadata": _metadata,
}


def _scopes(model: onnx.ModelProto, text: str) -> None:
    for node in model.graph.node:
        for prop in node.metadata_props:
            prop.value = text


SCOPED: dict[str, Callable[[onnx.ModelProto], None]] = {
    f"scopes {text[:20]!r}": partial(_scopes, text=text)
    for text in ("", "1", "[]", "['a'", "['a', 1]", "[" * 100_000, "__import__('os')", "['\x1b[31m']", "\0", "['']" * 9)
}
"""What names a node's place in the network, as torch's exporter writes it, and a stranger may not."""


def _external(model: onnx.ModelProto, **where: str) -> None:
    tensor = _weights(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


OUTSIDE: dict[str, Callable[[onnx.ModelProto], None]] = {
    f"weights in {location!r}{f' at {rest}' if rest else ''}": partial(_external, location=location, **rest)
    for location, rest in [
        ("/etc/passwd", {}),
        ("../../work/weights.bin", {}),
        ("../../../../../../etc/passwd", {"offset": "0", "length": "100"}),
        ("proof/../../../work/weights.bin", {}),
        ("manifest.json", {"offset": "0"}),
        ("manifest.json", {"offset": "-5"}),
        ("manifest.json", {"offset": "9" * 30}),
        ("manifest.json", {"length": "9" * 18}),
        ("nothing.bin", {}),
        ("", {}),
        (".", {}),
        ("/dev/zero", {}),
        ("x" * 5000, {}),
        ("\x1b[31m\n", {}),
        ("*/_ORT_MEM_ADDR_/*", {"offset": "4096", "length": "16"}),
    ]
}
"""Weights in files that the manifest does not list as this graph's."""


def tokenizer_cases() -> Iterator[Case]:
    """`tokenizer.json` damaged, wrong in every field, and such as never end."""
    text = (SYSTEMS[SYSTEM].source() / "tokenizer.json").read_text("utf-8")
    data = json.loads(text)
    for name, make in (cut(text.encode(), 10) | flipped(text.encode(), 30)).items():
        yield _replaced("tokenizer", name, "tokenizer.json", make)
    for number, path in enumerate(
        places(data, many={"vocab": 1, "added_tokens": 1, "merges": 1, "special_tokens": 1}).values()
    ):
        for how, changed in wrongs(data, path, number):
            make = partial(str.encode, changed, "utf-8", "surrogatepass")
            name = f"{'.'.join(map(str, path))}: {how}"
            yield _replaced("tokenizer", name, "tokenizer.json", make)
    for name, change in TOKENIZERS.items():
        yield _replaced("tokenizer", name, "tokenizer.json", lambda change=change: json.dumps(data | change()).encode())


def _replacements(turns: int, to: str) -> dict[str, Any]:
    each = {"type": "Replace", "pattern": {"String": "e"}, "content": to}
    return {"normalizer": {"type": "Sequence", "normalizers": [each] * turns}}


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(depth):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return {"normalizer": inner}


TOKENIZERS: dict[str, Callable[[], dict[str, Any]]] = {
    "replacements that double 40 times": lambda: _replacements(40, "ee"),
    "replacements that grow a thousandfold 5 times": lambda: _replacements(5, "e" * 1000),
    "a thousand replacements": lambda: _replacements(1000, "e"),
    "normalizers within normalizers": lambda: _nested(100),
    "a pattern that backtracks": lambda: {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(e+e*)+$"}, "behavior": "Isolated", "invert": False}
    },
    "a pattern of a million states": lambda: {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(a{1000}){1000}"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
    "an empty vocabulary": lambda: {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}},
    "ids beyond the embedding": lambda: {
        "model": {"type": "WordLevel", "vocab": {"<unk>": 2**31}, "unk_token": "<unk>"}
    },
    "the largest id": lambda: {"model": {"type": "WordLevel", "vocab": {"<unk>": 2**32 - 1}, "unk_token": "<unk>"}},
    "no tokens added": lambda: {"post_processor": None},
    "a hundred tokens added": lambda: {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 100,
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        }
    },
    "a billion tokens of padding": lambda: {
        "padding": {
            "strategy": {"Fixed": 10**9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        }
    },
    "an embedding's end in a special token": lambda: {
        "added_tokens": [
            {
                "id": 10**6,
                "content": "red",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ]
    },
}


def engine_cases() -> Iterator[Case]:
    """Engines of the CPU whose file or record is wrong; the record vouches for the file where it can."""
    bundle, graph = SYSTEMS[SYSTEM].source(), "projection"
    name, engine, record = _engine(bundle, graph)
    damaged = cut(engine, 8) | flipped(engine, 30)
    damaged |= {"text": lambda: b"nothing", "a length": lambda: b"\0" * 100 + b"\xff" * 8}
    for how, make in damaged.items():
        yield _with_engine(f"file {how}", name, make, partial(_vouching, record))
        yield _with_engine(f"file {how}, not vouched for", name, make, lambda content: json.dumps(record).encode())
    for number, path in enumerate(places(record, many={"shapes": 1, "options": 1}).values()):
        for how, text in wrongs(record, path, number):
            written = partial(_same, text.encode("utf-8", "surrogatepass"))
            yield _with_engine(f"record {'.'.join(map(str, path))}: {how}", name, lambda: engine, written)


def _vouching(record: dict[str, Any], content: bytes) -> bytes:
    return json.dumps(record | {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}).encode()


def _same(record: bytes, content: bytes) -> bytes:
    return record


def _with_engine(case: str, name: str, make: Callable[[], bytes], record: Callable[[bytes], bytes]) -> Case:
    def attempt(room: Room) -> str | None:
        bundle, content = room.bundle(SYSTEM), make()
        with room.replaced(bundle, {f"engines/{name}.engine": content, f"engines/{name}.json": record(content)}):
            problem = refused_or_drawn(room, drawing(room, SYSTEM))
        (bundle / "engines").rmdir()
        return problem

    return Case("engine", case, attempt)


def _engine(bundle: Path, graph: str) -> tuple[str, bytes, dict[str, Any]]:
    """Name, content and record of a good engine, made for this machine."""
    from tempfile import TemporaryDirectory

    from x2i.runtime.sessions.onnxruntime_cpu import build_onnxruntime_engine

    with TemporaryDirectory() as folder:
        from dataclasses import replace

        file = replace(open_bundle(bundle, check_files=False).graph_file(graph), engines=Path(folder))
        path = build_onnxruntime_engine(file)
        return path.stem, path.read_bytes(), json.loads(path.with_suffix(".json").read_text("utf-8"))
