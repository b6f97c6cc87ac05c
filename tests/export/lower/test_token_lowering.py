"""Systems that draw tokens in lower precision and on other libraries: the gate counts tokens, step by step."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.errors import GateError
from x2i.export.exporter import export_bundle
from x2i.export.gate import LIMITS, measure_gate
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.profiling.job import stand_ins

from tests.bundles import tiny
from tests.goldens import golden
from tests.made_once import made_once
from tests.numerics import assert_close

LOWERED = (("muse", "fp16"), ("captioner", "int8"))
SYSTEMS = ("muse", "ddcap")


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
    assert "case 0: tokens" in CliRunner().invoke(main, ["inspect", str(folder)]).stdout


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
