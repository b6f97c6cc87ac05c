"""float16 written into a graph: its types, its casts, and how far the result is from fp32 torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser
from x2i.export.errors import PlanError
from x2i.export.graphs import graph_io
from x2i.export.precision import fp16, fp16_emulation
from x2i.export.precision.fp16_exclusions import largest_error
from x2i.export.precision.weight_rounding import as_fp16, rounding_error
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from tests.numerics import assert_close

BUNDLES = ("tiny_bundle", "elite_bundle", "sound_bundle", "fastcomposer_bundle")
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def graph_of(tmp_path: Path, text: str, **weights: np.ndarray) -> Path:
    """A graph in ONNX's text form, with weights that the text declares by name alone."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    path = tmp_path / "single.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def halved(source: Path, **options) -> onnx.ModelProto:
    target = source.with_name("half.onnx")
    fp16.to_fp16(source, target, **options)
    onnx.checker.check_model(target, full_check=True)
    return onnx.load(target)


def run(path: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    return OnnxRuntimeSession(path)(**arrays)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element types by value, weights included."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {value.name: value.type.tensor_type.elem_type for value in values} | weights


def casts_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


def proof_of(folder: Path, record) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = {name: np.load(folder / file) for name, file in record.proof.items()}
    return {t.name: arrays[t.name] for t in record.inputs}, {t.name: arrays[t.name] for t in record.outputs}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_graph_of_every_system(bundle, request, tiny_bundle, tmp_path):
    folder, plain = request.getfixturevalue(bundle), open_bundle(tiny_bundle).manifest.graphs
    for name, record in open_bundle(folder).manifest.graphs.items():
        if folder != tiny_bundle and name in plain and plain[name].inputs == record.inputs:
            continue
        source, target, twin = folder / record.file, tmp_path / f"{name}.onnx", tmp_path / f"{name}.rounded.onnx"
        done = fp16.to_fp16(source, target)
        fp16_emulation.emulate_graph(source, twin)
        onnx.checker.check_model(target, full_check=True)
        session = OnnxRuntimeSession(target)
        assert session.inputs == record.inputs and session.outputs == record.outputs
        inputs, expected = proof_of(folder, record)
        for actual in (session(**inputs), run(twin, **inputs)):
            for output, array in expected.items():
                assert_close(actual[output], array, "half-graph")
        _check_casts(onnx.load(target), done.casts)


def _check_casts(model: onnx.ModelProto, count: int) -> None:
    """No cast reads another's result, changes nothing or repeats another; every weight that is large is in half."""
    types = types_of(model)
    casts = [cast for cast in casts_of(model) if {types[cast.input[0]], types[cast.output[0]]} <= {HALF, SINGLE}]
    made = {cast.output[0] for cast in casts}
    assert len(casts) == count
    assert not [cast.name for cast in casts if cast.input[0] in made]
    assert not [cast.name for cast in casts if types[cast.input[0]] == types[cast.output[0]]]
    assert len({(cast.input[0], cast.attribute[0].i) for cast in casts}) == len(casts)
    sizes = {
        kind: sum(np.prod(w.dims) for w in model.graph.initializer if w.data_type == kind) for kind in (HALF, SINGLE)
    }
    assert sizes[HALF] > 0.99 * sum(sizes.values()) or "Log" in {node.op_type for node in model.graph.node}


def test_the_injected_op_takes_half_and_a_single_strength(elite_bundle, tmp_path):
    source = elite_bundle / "denoiser.onnx"
    fp16.to_fp16(source, tmp_path / "half.onnx")
    before, after = onnx.load(source), onnx.load(tmp_path / "half.onnx")
    nodes, types = [n for n in after.graph.node if n.domain == "x2i"], types_of(after)
    assert len(nodes) == len([n for n in before.graph.node if n.domain == "x2i"]) > 0
    for node in nodes:
        kinds = [types[name] for name in node.input]
        assert kinds == [HALF] * 5 + [TensorProto.INT64, SINGLE] and node.input[6] == "strength"
    assert [f.SerializeToString() for f in before.functions] == [f.SerializeToString() for f in after.functions]
    assert {w.name for w in before.graph.initializer} <= {w.name for w in after.graph.initializer}


@pytest.mark.parametrize("bundle", ["elite_bundle", "sound_bundle"])
def test_a_strongly_typed_network_takes_every_graph(bundle, request, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx")
    folder = request.getfixturevalue(bundle)
    logger = trt.Logger(trt.Logger.ERROR)
    for name, record in open_bundle(folder).manifest.graphs.items():
        fp16.to_fp16(folder / record.file, tmp_path / f"{name}.onnx")
        network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        read = trt.OnnxParser(network, logger)
        assert read.parse_from_file(str(tmp_path / f"{name}.onnx")), (name, read.get_error(0).desc())


def test_timesteps_reach_the_sinusoids_in_single(tiny_bundle, tmp_path):
    model = halved(_copied(tiny_bundle / "denoiser.onnx", tmp_path))
    makers, types = {o: node for node in model.graph.node for o in node.output}, types_of(model)
    waves = [node for node in model.graph.node if node.op_type in ("Sin", "Cos")]
    assert len(waves) == 2
    for name in [node.input[0] for node in waves]:
        while name in makers:
            assert types[name] == SINGLE and makers[name].op_type != "Cast"
            name = makers[name].input[0]
        assert name == "timestep"


def _copied(source: Path, folder: Path) -> Path:
    return folder.joinpath(source.name).write_bytes(source.read_bytes()) and folder / source.name


def test_casts_stand_where_they_are_fewest(tmp_path):
    source = graph_of(
        tmp_path,
        """g (float[N, 8] x) => (float[N, 8] y, float[8, N] z) <float[8, 8] w> {
            a = MatMul (x, w)
            b = Relu (a)
            c = Transpose <perm = [1, 0]> (b)
            d = Exp (c)
            z = Neg (d)
            e = MatMul (b, w)
            y = Relu (e)
        }""",
        w=np.eye(8, dtype=np.float32) / 4,
    )
    model = halved(source)
    assert {cast.input[0]: cast.attribute[0].i for cast in casts_of(model)} == {
        "x": HALF,
        "c": SINGLE,
        "y.half": SINGLE,
    }
    assert [types_of(model)[name] for name in "xabcdezyw"] == [
        SINGLE,
        HALF,
        HALF,
        HALF,
        SINGLE,
        HALF,
        SINGLE,
        SINGLE,
        HALF,
    ]


def test_nothing_goes_through_half_between_two_nodes_in_single(tmp_path):
    text = """g (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w, int64[2] shape> {
        a = Exp (x)  b = Reshape (a, shape)  c = Relu (b)  d = Sqrt (c)  e = MatMul (d, w)  y = Add (e, b)
    }"""
    model = halved(graph_of(tmp_path, text, w=np.eye(8, dtype=np.float32), shape=np.int64([-1, 8])))
    kinds = types_of(model)
    assert [kinds[name] for name in "abcde"] == [SINGLE] * 4 + [HALF]
    assert sorted(cast.input[0] for cast in casts_of(model)) == ["b", "d", "y.half"]


def test_constants_shapes_and_castlike(tmp_path):
    source = graph_of(
        tmp_path,
        """g (float[N, 8] x, int64[M] ids) => (float[N, 8] y, int64[2] size) <float[8, 8] w> {
            size = Shape (x)
            a = MatMul (x, w)
            two = Constant <value_float = 2.5> ()
            b = Mul (a, two)
            seen = Cast <to = 1> (ids)
            mean = ReduceMax <keepdims = 0> (seen)
            flag = CastLike (mean, b)
            c = Add (b, flag)
            y = Reshape (c, size)
        }""",
        w=np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32),
    )
    model = halved(source)
    kinds = types_of(model)
    assert [kinds[name] for name in ("a", "two", "b", "seen", "flag", "c")] == [HALF] * 6 and kinds[
        "size"
    ] == TensorProto.INT64
    arrays = {"x": np.float32(np.arange(40).reshape(5, 8) / 7), "ids": np.int64([3, 9])}
    expected, actual = run(source, **arrays), run(source.with_name("half.onnx"), **arrays)
    assert_close(actual["y"], expected["y"], "half-graph")
    assert (actual["size"] == [5, 8]).all()


def test_a_constant_of_a_shape_keeps_its_attributes_type(tmp_path):
    body = "s = Shape(x) y = ConstantOfShape<value = float[1] {1.0}>(s) z = Add(x, y) out = Mul(z, z)"
    source = graph_of(tmp_path, f"agraph (float[n, 4] x) => (float[n, 4] out) {{ {body} }}")
    halved(source)
    x = np.linspace(-2, 2, 20, dtype=np.float32).reshape(5, 4)
    assert_close(run(source.with_name("half.onnx"), x=x)["out"], run(source, x=x)["out"], "half-graph")


def test_masks_stay_finite(tmp_path):
    """The lowest float32 stands for minus infinity: a row of nothing else must not become NaN."""
    source = graph_of(
        tmp_path,
        "g (float[2, 8] x) => (float[2, 8] y) <float[2, 8] mask> { a = Add (x, mask)  y = Softmax (a) }",
        mask=np.float32([[0] * 8, [np.finfo(np.float32).min] * 8]),
    )
    x = np.zeros((2, 8), np.float32)
    halved(source)
    fp16_emulation.emulate_graph(source, source.with_name("rounded.onnx"))
    for name in ("half.onnx", "rounded.onnx"):
        assert_close(run(source.with_name(name), x=x)["y"], np.full((2, 8), 0.125), "exact")


def test_weights_that_half_cannot_hold_keep_their_nodes_in_single(tmp_path):
    text = (
        "g (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w, float[8, 8] v> { a = MatMul (x, w)  y = MatMul (a, v) }"
    )
    good = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    for bad in (good * 1e5, good * 1e-6):
        kinds = types_of(halved(graph_of(tmp_path, text, w=good, v=bad)))
        assert (kinds["w"], kinds["v"]) == (HALF, SINGLE)
    assert rounding_error(good) < 5e-4 < 1e-3 < rounding_error(good * 1e-6) and np.isinf(rounding_error(good * 1e5))
    assert np.isinf(as_fp16(np.float32([-np.inf])))[0] and as_fp16(np.float32([-3e38]))[0] == -65504


def test_a_floor_that_half_cannot_hold_stays(tmp_path):
    """As under a vector's length, which must not divide by zero."""
    text = """g (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w, float floor, int64[1] axes> {
        a = MatMul (x, w)  b = ReduceL2 (a, axes)  c = Clip (b, floor)  y = Div (a, c)
    }"""
    weights = {"w": np.eye(8, dtype=np.float32), "floor": np.float32(1e-12), "axes": np.int64([-1])}
    kinds = types_of(halved(graph_of(tmp_path, text, **weights)))
    assert [kinds[name] for name in ("a", "b", "c", "floor", "y.half")] == [HALF, SINGLE, SINGLE, SINGLE, HALF]


def test_a_kept_part_is_single_and_shares_its_weight(tmp_path):
    text = "g (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w> { a = MatMul (x, w)  y = MatMul (a, w) }"
    source = graph_of(tmp_path, text, w=np.eye(8, dtype=np.float32))
    model = onnx.load(source)
    for node, name in zip(model.graph.node, ("blocks.0.linear", "blocks.1.linear"), strict=True):
        node.name = name
    onnx.save(model, source)
    kinds = types_of(halved(source, keep_fp32=("blocks.1",)))
    assert (kinds["a"], kinds["w"], kinds["w.half"]) == (HALF, SINGLE, HALF)
    assert not casts_of(halved(source, keep_fp32=("blocks.*",)))


def test_branches_are_refused(tmp_path):
    text = """g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <
            then_branch = yes () => (float[2] p) { p = Relu (x) }, else_branch = no () => (float[2] q) { q = Neg (x) }
        >
    }"""
    with pytest.raises(PlanError, match=r"without branches and loops .*, got If; export it with fp32"):
        halved(graph_of(tmp_path, text))
    assert [path.name for path in tmp_path.iterdir()] == ["single.onnx"]


def test_large_weights_stay_beside_the_graph(tiny_bundle, tmp_path, monkeypatch):
    source, target = _copied(tiny_bundle / "decoder.onnx", tmp_path), tmp_path / "half" / "decoder.onnx"
    target.parent.mkdir()
    expected = halved(source).SerializeToString()
    monkeypatch.setattr(graph_io, "EXTERNAL_DATA_BYTES", 1000)
    graph_io.write_graph(graph_io.read_graph(source), source)
    fp16.to_fp16(source, target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["decoder.onnx", "decoder.onnx.data"]
    assert source.with_suffix(".onnx.data").stat().st_size > 1.9 * target.with_suffix(".onnx.data").stat().st_size
    onnx.checker.check_model(target, full_check=True)
    latents = np.random.default_rng(2).standard_normal((1, 4, 8, 8)).astype(np.float32)
    outside = run(target, latents=latents)["image"]
    monkeypatch.setattr(graph_io, "EXTERNAL_DATA_BYTES", 1 << 30)
    fp16.to_fp16(source, target)
    assert target.read_bytes() == expected
    assert_close(run(target, latents=latents)["image"], outside, "exact")


def test_a_spoken_word_is_heard_alike(sound_bundle, tmp_path):
    """Half a spectrogram would not do: its quiet places are what sums leave."""
    from x2i.emoji.world.spoken import spoken_words

    source, word = sound_bundle / "audio_encoder.onnx", spoken_words()[0].samples
    record = open_bundle(sound_bundle).manifest.graphs["audio_encoder"]
    wave = np.zeros((1, 1, record.inputs[0].shape[-1]), np.float32)
    wave[0, 0, : len(word)] = 32767 * 0.1 * word[: wave.shape[-1]]
    fp16_emulation.emulate_graph(source, tmp_path / "rounded.onnx")
    expected = run(source, waveform=wave)["features"]
    assert_close(run(tmp_path / "rounded.onnx", waveform=wave)["features"], expected, "half-graph")
    assert largest_error({"y": expected + 1}, {"y": expected}) > 1
    assert largest_error({"y": expected}, {"y": expected}) == 0
