"""From an fp32 bundle to a lower precision: what every graph gets, what the manifest says, what is refused."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from x2i.export.errors import GateError, PlanError
from x2i.export.gate import LIMITS
from x2i.export.graphs.part_names import SCOPES, path_of, scopes_of
from x2i.export.lora.variants import without_lora
from x2i.export.lower import lowered_bundle
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering, choose_precisions
from x2i.export.paint.variants import without_paint
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.gate.metrics import relative_l2

from tests.export.conftest import QUICK
from tests.export.tune.presets import PRESETS

RUN = {"prompt": "a red cat", "language": "French", "steps": 2, "seed": 5}


def test_roles_of_a_bundle(tiny_bundle):
    manifest = without_paint(without_lora(open_bundle(tiny_bundle).manifest))
    chosen = choose_precisions(manifest.plan, manifest.graphs, {"": "int8+fp16", "translator.*": "fp32"})
    assert chosen == {
        "encoder": "fp16",
        "translator.Chinese": "fp32",
        "translator.French": "fp32",
        "projection": "fp32",
        "denoiser": "int8+fp16",
        "decoder": "fp16",
        "vae_encoder": "fp16",
    }


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        ({"": "fp8"}, ["expected one of fp32, fp16, bf16, int8, int8+fp16, int8-weights, int4-weights, got 'fp8'"]),
        ({"unet": "fp16", "": "half"}, ["got 'half'", "--precision unet: expected a graph of the bundle"]),
        (
            {"translator.Klingon": "fp16"},
            ["--precision translator.Klingon: expected a graph of the bundle"],
        ),
        ({"decoder": "int8"}, ["--precision decoder=int8: expected a denoiser"]),
    ],
)
def test_refused_precisions(tiny_bundle, asked, messages):
    manifest = open_bundle(tiny_bundle).manifest
    with pytest.raises(PlanError) as refused:
        choose_precisions(manifest.plan, manifest.graphs, asked)
    told = "\n".join(refused.value.problems)
    assert all(message in told for message in messages)


def test_every_graph_says_its_precision_and_error(int8_bundle, half_bundle):
    for bundle, precision in ((int8_bundle, "int8"), (half_bundle, "fp16")):
        graph = open_bundle(bundle).manifest.graphs["denoiser"]
        assert graph.precision == precision
        assert 0 < graph.measured.error <= graph.measured.gate


def test_the_file_holds_the_types(tiny_bundle, int8_bundle, half_bundle):
    counts = {}
    for name, bundle in (("fp32", tiny_bundle), ("int8", int8_bundle), ("fp16", half_bundle)):
        model = onnx.load(bundle / "denoiser.onnx")
        weights = [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1]
        counts[name] = {kind: weights.count(getattr(onnx.TensorProto, kind)) for kind in ("FLOAT", "FLOAT16", "INT8")}
        assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}
    assert counts["fp32"]["FLOAT16"] == counts["fp32"]["INT8"] == 0
    assert counts["int8"]["INT8"] > 10 and counts["fp16"]["FLOAT16"] > 10


def test_the_gate_is_in_the_manifest_and_drawn_again(int8_bundle):
    gate = open_bundle(int8_bundle).manifest.gate
    assert gate is not None and not gate.accepted and len(gate.measured) == len(gate.cases) > 1
    assert all(0 < found.latents <= gate.limits.latents for found in gate.measured)
    verified = json.loads(CliRunner().invoke(main, ["verify", str(int8_bundle), "--json"]).stdout)
    assert not verified["failed"]
    assert [case["latents"] for case in verified["cases"]] == pytest.approx([m.latents for m in gate.measured])
    shown = CliRunner().invoke(main, ["inspect", str(int8_bundle)]).stdout
    assert "denoiser: int8, " in shown and "gate" in shown and "case 0: latents" in shown


def test_it_draws_nearly_what_fp32_draws(tiny_bundle, int8_bundle, half_bundle):
    expected = load(tiny_bundle)(**RUN).latents
    errors = [relative_l2(load(bundle)(**RUN).latents, expected) for bundle in (half_bundle, int8_bundle)]
    assert 0 < errors[0] < 0.01 and errors[0] < errors[1] < 0.2


def test_same_seed_same_bytes(tiny_bundle, int8_bundle, tmp_path):
    lower(tiny_bundle, tmp_path / "again", replace(QUICK, precision={"": "int8"}))
    first, again = (open_bundle(bundle).manifest.files for bundle in (int8_bundle, tmp_path / "again"))
    assert first == again


def test_presets_stay_behind(preset_bundle, tmp_path):
    """They were found for another speed and error, and their graphs are fp32's."""
    told: list[str] = []
    lower(preset_bundle, tmp_path / "out", replace(QUICK, precision={"": "fp16"}), told.append)
    manifest = open_bundle(tmp_path / "out").manifest
    assert not manifest.plan.presets and [name for name in manifest.graphs if name.startswith("denoiser")] == [
        "denoiser",
        "denoiser.lora",
        "denoiser.paint",
    ]
    assert not list((tmp_path / "out").glob("denoiser.*-*")) and not (tmp_path / "out/proof/denoiser.features").exists()
    assert sum("left out; x2i tune" in line for line in told) == len(PRESETS)


@pytest.mark.parametrize("precision", ["fp16", "int8-weights"])
def test_names_to_keep_that_fit_nothing_are_refused(tiny_bundle, tmp_path, precision):
    for keep, line in (
        ("text_encodr:model", "expected a graph of the bundle, one of encoder, .*, got 'text_encodr'"),
        ("projection:model", "projection stays whole; name another graph, as in GRAPH:model"),
        ("encoder:nothing_like_this", "'nothing_like_this' fits no part; expected a module path such as"),
    ):
        with pytest.raises(PlanError, match=line):
            lower(tiny_bundle, tmp_path / "out", replace(QUICK, precision={"": precision}, keep=(keep,)))
    assert list(tmp_path.iterdir()) == []


def test_past_the_gate_nothing_is_written(tiny_bundle, tmp_path, monkeypatch):
    for precision in ("fp32", "fp16"):
        monkeypatch.setitem(LIMITS, precision, replace(LIMITS[precision], latents=1e-9))
    asked = replace(QUICK, precision={"denoiser": "fp16"})
    with pytest.raises(GateError, match=r"(?s)latents differ by .*nothing was written"):
        lower(tiny_bundle, tmp_path / "out", asked)
    assert not list(tmp_path.iterdir())
    lower(tiny_bundle, tmp_path / "out", replace(asked, accept=True))
    assert "latents differ" in open_bundle(tmp_path / "out").manifest.gate.accepted[0]


def test_a_bundle_is_lowered_once(half_bundle, tmp_path):
    with pytest.raises(PlanError, match="expected a bundle in fp32, but encoder, "):
        lower(half_bundle, tmp_path / "out", replace(QUICK, precision={"": "int8"}))


def test_small_weights_stay_as_they_are(tiny_bundle, tmp_path):
    told = []
    lower(tiny_bundle, tmp_path / "out", replace(QUICK, precision={"": "int8-weights"}), told.append)
    manifest = open_bundle(tmp_path / "out").manifest
    assert {graph.precision for graph in manifest.graphs.values()} == {"fp32"}
    assert any("encoder: no weight is large enough" in line for line in told)
    np.testing.assert_array_equal(load(tmp_path / "out")(**RUN).latents, load(tiny_bundle)(**RUN).latents)


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--precision", "int9"], ["--precision: expected one of fp32"]),
        (
            ["--precision", "int8", "--level", "7", "--quality", "2"],
            ["--level: expected", "--quality: expected"],
        ),
        (["--precision", "int8", "--calibration", "nowhere.jsonl"], ["--calibration: expected a file"]),
    ],
)
def test_refused_on_the_command_line(tiny_bundle, tmp_path, options, messages):
    result = CliRunner().invoke(main, ["lower", str(tiny_bundle), str(tmp_path / "out"), *options])
    assert result.exit_code == 2 and not list(tmp_path.iterdir())
    assert all(message in result.stderr for message in messages), result.stderr


def test_export_lowers_at_once(tmp_path):
    """From random weights: no fp32 bundle is left beside it."""
    command = ["export", "sd", str(tmp_path / "out"), "--random-weights", "tiny", "--precision", "fp16"]
    result = CliRunner().invoke(main, [*command, "--trial-steps", "2"])
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert open_bundle(tmp_path / "out").manifest.graphs["decoder"].precision == "fp16"


def with_decoder(source, folder, change):
    """A copy of a bundle whose decoder is changed, and its digest with it."""
    shutil.copytree(source, folder)
    model = onnx.load(folder / "decoder.onnx")
    change(model)
    content = model.SerializeToString()
    (folder / "decoder.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["files"]["decoder.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def without_weights(model):
    model.graph.ClearField("initializer")


def of_zeros(model):
    for tensor in model.graph.initializer:
        if tensor.name.endswith("conv_out.weight"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0, tensor.name))


@pytest.mark.parametrize(("change", "words"), [(without_weights, "cannot open"), (of_zeros, "beside fp32 torch")])
def test_a_graph_that_is_not_torchs_is_refused_before_the_work(tiny_bundle, tmp_path, monkeypatch, change, words):
    bundle = with_decoder(tiny_bundle, tmp_path / "bundle", change)
    monkeypatch.setattr(lowered_bundle, "lowered_graph", None)
    with pytest.raises(InputError) as refused:
        lower(bundle, tmp_path / "out", Lowering({"decoder": "fp16"}))
    (problem,) = refused.value.problems
    assert "decoder.onnx" in problem and words in problem and "export it again" in problem
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "1", "[]", "['a'", "['a', 1]", "[" * 100_000, "__import__('os')"])
def test_scopes_that_are_no_list_of_names_are_refused(text):
    node = onnx_ir.node("Add", [], metadata_props={SCOPES: text})
    with pytest.raises(PlanError, match=r"expected .*name_scopes as a list of names") as refused:
        path_of(node)
    assert len(str(refused.value)) < 400


def test_scopes_as_torch_writes_them():
    node = onnx_ir.node("Add", [], metadata_props={SCOPES: repr(["", "unet.conv_in", "conv2d"])})
    assert scopes_of(node) == ["", "unet.conv_in", "conv2d"] and path_of(node) == "unet.conv_in.conv2d"
    assert scopes_of(onnx_ir.node("Add", [], name="/unet/Add")) == []
