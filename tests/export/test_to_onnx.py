"""Graphs against their truth: GlueNet's text translators, weights outside the file, and what the proof notices."""

import json
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from x2i.export.to_onnx import Component, to_onnx
from x2i.models.translators.gluenet import read_translator
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

TRANSLATORS = (
    "noln_77_64_48_2_5",
    "small_noln_10_12_8",
    "small_noln_square_10_12_12",
    "small_translator_10_12_8",
    "small_translator_clip_10_12_8",
)


def component(module: torch.nn.Module, tokens: int, width: int) -> Component:
    def example(sizes):
        return {"features": torch.randn(sizes["batch"], tokens, width, generator=torch.Generator().manual_seed(6))}

    return Component(
        "network", module.eval(), example, ("context",), {"features": {0: "batch"}}, {"batch": 2}, {"batch": 3}
    )


@pytest.mark.parametrize("tag", TRANSLATORS)
def test_translator_graph_equals_the_authors_output(tmp_path, tag):
    described = json.loads(golden("gluegen/translators/translators.json").read_text("utf-8"))
    tokens, width, width_out = next(entry["args"][:3] for entry in described if entry["tag"] == tag)
    io = golden_tensors(f"gluegen/translators/{tag}.io.safetensors")
    translator = read_translator(golden(f"gluegen/translators/{tag}.safetensors"))
    assert (translator.tokens, translator.width, translator.width_out) == (tokens, width, width_out)
    to_onnx(component(translator, tokens, width), tmp_path / "network.onnx")
    actual = open_session("cpu", GraphFile("network", tmp_path / "network.onnx"))(features=io["input"])["context"]
    assert_close(actual, io["output"], "translator")


def test_large_weights_leave_the_file_and_still_run(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(48, 96), torch.nn.GELU(), torch.nn.Linear(96, 48))
    to_onnx(component(network, 7, 48), tmp_path / "network.onnx", external_data_bytes=1 << 10)
    assert (tmp_path / "network.onnx.data").stat().st_size > 4 * 48 * 96
    assert (tmp_path / "network.onnx").stat().st_size < 1 << 14
    features = torch.randn(5, 7, 48)
    actual = open_session("cpu", GraphFile("network", tmp_path / "network.onnx"))(features=features.numpy())["context"]
    with torch.no_grad():
        assert_close(actual, network(features).numpy(), "unet")


def test_a_failed_trace_leaves_the_loggers_as_they_were(tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, features):
            raise ValueError("no forward")

    logger = logging.getLogger("torch")
    before, filters = logger.level, list(warnings.filters)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(ValueError, match="no forward"):
            to_onnx(component(Broken(), 7, 48), tmp_path / "network.onnx")
        assert logger.level == logging.INFO and warnings.filters == filters
    finally:
        logger.setLevel(before)
    assert list(tmp_path.iterdir()) == []


def test_graph_is_strongly_typed_standard_onnx(golden_bundle):
    for path in golden_bundle.glob("*.onnx"):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        domains = {node.domain for node in model.graph.node}
        # The node for painted words comes with a function of standard ones.
        own = {"x2i"} if path.stem.endswith(".paint") else set[str]()
        assert domains == {"", *own}, f"{path.name}: nodes of {domains}"
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]


def test_bundle_keeps_a_proof_at_other_sizes_than_the_trace(golden_bundle):
    latents = np.load(golden_bundle / "proof" / "denoiser" / "latents.npy")
    assert latents.shape == (3, 4, 9, 13)


def test_manifest_says_what_made_it(golden_bundle):
    manifest = json.loads((golden_bundle / "manifest.json").read_text("utf-8"))
    assert manifest["producer"].keys() >= {"torch", "onnx", "x2i-edge"}
    assert [source["part"] for source in manifest["sources"]][:2] == ["base", "encoder"]
    assert "/" not in "".join(source["name"] for source in manifest["sources"])
    for graph in manifest["graphs"].values():
        assert 0 <= graph["measured"]["error"] <= graph["measured"]["gate"]


def test_a_graph_tells_nothing_of_the_machine_that_made_it(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU())
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        to_onnx(component(network, 7, 8), tmp_path / folder / "network.onnx")
    written = (tmp_path / "here" / "network.onnx").read_bytes()
    assert written == (tmp_path / "there" / "network.onnx").read_bytes()
    model = onnx.load_from_string(written)
    graph, nodes = model.graph, [*model.graph.node, *(node for each in model.functions for node in each.node)]
    tensors = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    assert {prop.key for node in nodes for prop in node.metadata_props} == {"pkg.torch.onnx.name_scopes"}
    assert not any(each.metadata_props for each in (model, graph, *tensors))
    assert not any(each.doc_string for each in (model, graph, *nodes, *tensors))
