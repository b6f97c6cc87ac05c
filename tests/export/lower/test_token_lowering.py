"""Systems that draw tokens in lower precision and on other libraries: the gate counts tokens, step by step."""

import json
import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.errors import GateError, PlanError
from x2i.export.exporter import export_bundle
from x2i.export.gate import LIMITS, measure_gate
from x2i.export.gate_cases import calibration_runs
from x2i.export.graphs.graph_io import read_graph
from x2i.export.lower import lowered_bundle
from x2i.export.lower.calibration import record_calibration
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan
from x2i.export.precision import weight_only
from x2i.export.precision.int8_layers import LEVELS, layers_to_quantize, quantizable_layers
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.profiling.job import stand_ins
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.goldens import golden
from tests.made_once import made_once
from tests.numerics import assert_close

LOWERED = (("muse", "fp16"), ("captioner", "int8"))
SYSTEMS = ("muse", "ddcap")
TOKEN_SYSTEMS = ("vq-diffusion", "cdcd", "cdcd-music", "diffsound", "unid3", "vq-ddm", "muse", "ddcap")
READERS = tuple(name for name in TOKEN_SYSTEMS if name not in ("unid3", "vq-ddm"))
"""Systems whose steps read keys and values."""
LEAST_EQUAL = {"fp16": 0.95, "int8": 0.9, "int8-weights": 0.95}
"""The share of equal tokens at least. Released sizes are held to more: networks of random weights are undecided."""


def captioner() -> Path:
    """One of the recorded ones: of random weights of a few dozen channels int8 leaves too little."""
    folder = min(golden("ddcap").glob("t*/"))
    (checkpoint,) = folder.glob("*.pt")
    parts = {"checkpoint": checkpoint, "tokenizer": golden("ddcap/gpt2")}
    return made_once(f"ddcap-{folder.name}", lambda out: export_bundle(ExportPlan("ddcap", out, parts=parts)), [folder])


def lowered(system: str, precision: str) -> Path:
    source = captioner() if system == "captioner" else tiny(system)

    def make(out: Path) -> None:
        # Random networks are so undecided that a bit of half precision turns a token in fifty.
        lower(source, out, Lowering(precision={"": precision}, steps=4, accept=True))

    return made_once(f"{source.name}-{precision}", make)


@pytest.mark.parametrize(("system", "precision"), LOWERED)
def test_the_gate_counts_tokens(system, precision):
    folder = lowered(system, precision)
    manifest = open_bundle(folder).manifest
    assert manifest.graphs["transformer"].precision == precision
    assert manifest.gate is not None and manifest.gate.limits.tokens == LIMITS[precision].tokens
    assert all(found.latents is None and found.tokens >= 0.9 for found in manifest.gate.measured)
    pictures = "picture" in manifest.plan.process.gives
    assert all((case.picture is not None) == pictures and case.noise is None for case in manifest.gate.cases)
    verified = json.loads(CliRunner().invoke(main, ["verify", str(folder), "--json"]).stdout)
    assert all(case["tokens"] >= 0.9 and case["latents"] is None for case in verified["cases"])
    shown = CliRunner().invoke(main, ["inspect", str(folder)]).stdout
    assert "case 0: tokens" in shown and f"fp32's: tokens from {LIMITS[precision].tokens:.2%}, PSNR" in shown


def weights_stored(system: str) -> Path:
    """The transformer in 8-bit weights, also those that are too small to be worth it."""

    def make(out: Path) -> None:
        with patch.object(weight_only, "to_weight_only", partial(weight_only.to_weight_only, smallest=1)):
            lower(tiny(system), out, Lowering(precision={"transformer": "int8-weights"}, steps=4, accept=True))

    return made_once(f"tiny-{system}-transformer-int8-weights", make)


def transformer_lowered(system: str, precision: str) -> Path:
    def make(out: Path) -> None:
        lower(tiny(system), out, Lowering(precision={"transformer": precision}, steps=4, accept=True))

    return made_once(f"tiny-{system}-transformer-{precision}", make)


@pytest.mark.filterwarnings("ignore:prompt. longer than")
@pytest.mark.parametrize("precision", LEAST_EQUAL)
@pytest.mark.parametrize("system", TOKEN_SYSTEMS)
def test_every_transformer_in_every_precision(system: str, precision: str) -> None:
    folder = weights_stored(system) if precision == "int8-weights" else transformer_lowered(system, precision)
    manifest = open_bundle(folder).manifest
    assert {name for name, graph in manifest.graphs.items() if graph.precision == precision} == {"transformer"}
    assert manifest.gate is not None and manifest.gate.limits.tokens == LIMITS[precision].tokens
    verified = CliRunner().invoke(main, ["verify", str(folder), "--backend", "cpu", "--json"])
    shares = [case["tokens"] for case in json.loads(verified.stdout)["cases"]]
    print(f"{system} {precision}: {', '.join(f'{share:.2%}' for share in shares)} of the tokens")
    assert shares and min(shares) >= LEAST_EQUAL[precision]


@pytest.mark.filterwarnings("ignore:prompt. longer than")
@pytest.mark.parametrize("system", READERS)
def test_a_proof_holds_what_a_run_holds(system: str, tmp_path: Path) -> None:
    """Keys, values and whatever else the conditions give are as large in the proof as in runs, whose ranges int8 has:
    the largest number, and the root of the mean square."""
    bundle = open_bundle(tiny(system))
    runs = calibration_runs(bundle.manifest, steps=4)[1]
    graph = bundle.manifest.graphs["transformer"]
    open_one = partial(open_session, "cpu")
    calls = record_calibration(bundle, lambda name: open_one(bundle.graph_file(name)), runs, tmp_path)
    seen = list(calls["transformer"])
    context = [tensor.name for tensor in graph.inputs if tensor.dtype == "float32"]
    assert seen and context
    for name in context:
        proof = np.abs(np.load(bundle.path(graph.proof[name])))
        run = np.abs(np.concatenate([call[name].ravel() for call in seen]))
        assert 0.5 < proof.max() / run.max() < 2, name
        assert 0.6 < np.sqrt((proof**2).mean() / (run**2).mean()) < 1.6, name


@pytest.mark.parametrize("length", [1, 2])
def test_one_call_of_each_run_is_kept_however_short_a_caption_is(length: int, tmp_path: Path) -> None:
    bundle = open_bundle(tiny("ddcap"))
    runs = [{**stand_ins(bundle), "length": length}] * 5
    calls = record_calibration(
        bundle, lambda name: open_session("cpu", bundle.graph_file(name)), runs, tmp_path, calls_per_run=1
    )
    kept = [divmod(int(path.stem.replace("-", "")), 100_000) for path in calls["transformer"].files]
    assert [run for run, _ in kept] == list(range(5)) and {call for _, call in kept} == set(range(length))


def test_a_level_without_layers_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    asked = Lowering(precision={"": "int8"}, level=1)
    with (
        patch.object(lowered_bundle, "calibrate", side_effect=AssertionError),
        pytest.raises(PlanError, match=r"no layer is left to quantize at level 1, .*; choose --level 2$"),
    ):
        lower(tiny("ddcap"), tmp_path / "made", asked)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("system", TOKEN_SYSTEMS)
def test_the_levels_of_int8_are_those_of_every_denoiser(system: str) -> None:
    layers = quantizable_layers(read_graph(tiny(system) / "transformer.onnx"))
    found = {level: [layer.path for layer in layers if layer.level == level] for level in LEVELS}
    assert found[2.5] and found[3] and (found[1] or found[2])
    assert all(re.search("mlp|ff|res_blocks", path) for level in (1, 2) for path in found[level])
    assert all(re.search("att", path) and "proj" not in path and "to_out" not in path for path in found[2.5])
    assert not any(re.search(r"mlp|\.ff\.|res_blocks", path) for path in found[3])
    if not found[1]:
        with pytest.raises(PlanError, match=r"no layer is left to quantize at level 1, .*; choose --level 2$"):
            layers_to_quantize(layers, 1)


def test_other_states_are_past_the_gate(tmp_path):
    """What fp32 reached is another run's: too few tokens are the same."""
    folder = lowered("muse", "fp16")
    bundle = open_bundle(folder)
    case = bundle.manifest.gate.cases[0]
    states = np.load(folder / case.states)
    copied = tmp_path / case.states
    copied.parent.mkdir(parents=True)
    np.save(copied, (states + 1) % bundle.manifest.plan.process.sampler.classes)
    (tmp_path / case.picture).write_bytes((folder / case.picture).read_bytes())
    with pytest.raises(GateError, match="of the tokens are fp32's"):
        measure_gate(load(folder, "cpu"), tmp_path, [case], LIMITS["fp16"])


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("system", SYSTEMS)
def test_openvino_draws_the_same_tokens(system):
    tokens = []
    for backend in ("cpu", "openvino"):
        pipeline = load(tiny(system), backend)
        tokens.append(pipeline(**stand_ins(pipeline.bundle), seed=3).tokens)
    assert_close(tokens[1], tokens[0], "exact")
