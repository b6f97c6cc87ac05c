"""One record an option: a toy input, written here and nowhere else, is found everywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypedDict, get_type_hints

import click
import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.lower.calibration_file import read_cases
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.cli import main
from x2i.runtime.commands.options import given_keywords, run_keywords
from x2i.runtime.commands.plan_text import plan_lines
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.gate.cases import case_options, write_case
from x2i.runtime.gate.record import Case
from x2i.runtime.inputs import registry
from x2i.runtime.inputs.option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of
from x2i.runtime.inputs.registry import RunOptions, options_table, run_options
from x2i.runtime.profiling.job import completed_options
from x2i.runtime.request import make_request
from x2i.runtime.samplers.sampler import Noise
from x2i.runtime.server.models.capabilities import bundle_capabilities
from x2i.runtime.server.settings import ServerLimits

from tests.runtime.toy import plan, toy_pipeline


class TempoOptions(TypedDict, total=False):
    tempo: Annotated[float, Option("number", "How fast it swings.", default=1.0, least=0.5, most=4)]
    sketch: Annotated[Any, Option("picture", "A drawing of it.")]


@dataclass(frozen=True, slots=True)
class TempoInput:
    """How fast something swings: slot `tempo`, float32 [1]."""

    KEY: ClassVar[str] = "tempo"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(TempoOptions)

    usual: float

    def slots(self) -> tuple[str, ...]:
        return ("tempo",)

    def describe(self) -> str:
        return f"tempo ({self.usual:g})"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        made.slots["tempo"] = np.asarray([call.values["tempo"]], np.float32)
        made.notes.append("tempo: noted")

    def stand_in(self) -> dict[str, Any]:
        return {"tempo": 2.0}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"tempo": (1,)}


@pytest.fixture
def toy_plan(monkeypatch):
    """A plan that takes the toy input beside its prompt."""
    monkeypatch.setattr(registry, "CONDITIONER_INPUTS", [*registry.CONDITIONER_INPUTS, TempoInput])
    whole = plan()
    (text,) = whole.conditioners
    return replace(whole, conditioners=(replace(text, inputs=(*text.inputs, TempoInput(1.5))),))


@pytest.fixture
def pipeline(toy_plan, tmp_path):
    return toy_pipeline(tmp_path / "toy", plan=toy_plan)[0]


def test_a_manifest_keeps_it(toy_plan):
    (conditioner,) = toy_plan.conditioners
    written = encode(conditioner)
    assert written["tempo"] == {"usual": 1.5}
    assert decode(Conditioner, written, "conditioner") == conditioner


def test_python_takes_it_and_fills_its_slot(pipeline):
    request = make_request(pipeline.bundle.manifest, "red", language="French", tempo=3)
    assert request.inputs.slots["tempo"].tolist() == [3] and "tempo: noted" in request.notes
    assert pipeline("red", language="French", tempo=3).images


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tempo": 5}, "tempo: expected a finite number from 0.5 to 4, got 5"),
        ({"tempo": 10**400}, "tempo: expected a finite number from 0.5 to 4, got 1000"),
        ({"tempo": float("nan")}, "tempo: expected a finite number from 0.5 to 4, got nan"),
        ({"tempo": "fast"}, "tempo: expected a finite number from 0.5 to 4, got 'fast'"),
        ({"tempi": 2}, "tempi: expected an option of a run, got this name; did you mean tempo?"),
        ({"stepz": 3}, "stepz: expected an option of a run, got this name; did you mean steps?"),
    ],
)
def test_python_checks_it(pipeline, given, problem):
    with pytest.raises(InputError) as caught:
        make_request(pipeline.bundle.manifest, "red", language="French", **given)
    (line,) = caught.value.problems
    assert line.startswith(problem)


def test_a_bundle_without_it_refuses_it(tmp_path):
    manifest = toy_pipeline(tmp_path / "plain")[0].bundle.manifest
    with pytest.raises(InputError, match="strength: this bundle takes none; leave it out"):
        make_request(manifest, "red", language="French", strength=0.5)


def test_the_command_line_has_it(toy_plan):
    @click.command()
    @run_keywords()
    def command(**values):
        click.echo(json.dumps(given_keywords(toy_plan.options(), values), default=str))

    found = CliRunner().invoke(command, ["--help"])
    assert "--tempo" in found.output and "How fast it swings." in found.output and "--sketch" in found.output
    assert json.loads(CliRunner().invoke(command, ["--tempo", "2.5"]).output) == {"tempo": 2.5}
    assert json.loads(CliRunner().invoke(command, []).output) == {}


def test_the_gate_stores_it_and_reads_it_again(toy_plan, tmp_path):
    sketch = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    case = write_case(tmp_path, 0, {"prompt": "red", "tempo": 3.0, "sketch": sketch, "noise": Noise(0, 1, (4, 6, 5))()})
    assert decode(Case, encode(case), "case") == case
    assert encode(case)["tempo"] == 3.0 and "gate/0/sketch.png" in case.files()
    taken = case_options(case, tmp_path)
    assert taken["tempo"] == 3.0 and taken["sketch"] == tmp_path / "gate/0/sketch.png"


def test_a_calibration_file_may_hold_it(pipeline, tmp_path):
    (tmp_path / "runs.jsonl").write_text('{"prompt": "red", "language": "French", "tempo": 2, "sketch": "s.png"}\n')
    (case,) = read_cases(tmp_path / "runs.jsonl", pipeline.bundle)
    assert case["tempo"] == 2 and case["sketch"] == tmp_path / "s.png"


def test_a_profile_gives_it_what_stands_in(pipeline):
    options, lines = completed_options(pipeline.bundle, {})
    assert options["tempo"] == 2.0 and any(line.startswith("tempo: a stand-in") for line in lines)


def test_engines_are_built_for_its_slot(toy_plan):
    (conditioner,) = toy_plan.conditioners
    encoder, translator = conditioner.stages
    encoder = replace(encoder, inputs=encoder.inputs | {"tempo": "tempo"})
    stages = (encoder, replace(translator, graph="translator"))
    text, sizes = ("batch", 6), ("batch", 4, "height", "width")
    tensors = {
        "encoder": ([("input_ids", text), ("attention_mask", text), ("tempo", ("beats",))], ("features", (*text, 1))),
        "translator": ([("features", (*text, 1))], ("context", (*text, 1))),
        "denoiser": ([("latents", sizes), ("timestep", ("batch",)), ("context", (*text, 1))], ("noise", sizes)),
        "decoder": ([("latents", sizes)], ("image", ("batch", 3, "8*height", "8*width"))),
    }
    graphs = {
        name: Graph(
            f"{name}.onnx",
            tuple(Tensor(tensor, "float32", shape) for tensor, shape in inputs),
            (Tensor(output[0], "float32", output[1]),),
            "fp32",
            Measured(0.0, 0.0),
        )
        for name, (inputs, output) in tensors.items()
    }
    changed = replace(toy_plan, conditioners=(replace(conditioner, stages=stages),))
    assert shape_ranges(Manifest("toy", changed, graphs, {}))["encoder"]["beats"] == (1, 2, 2)


def test_people_are_told_of_it(toy_plan):
    assert "  tempo (1.5) -> tempo" in plan_lines(toy_plan, {"translator.French"})
    assert ("tempo", "--tempo", "1.0", "How fast it swings.") in options_table()


def test_a_server_and_its_page_show_it(toy_plan):
    schema = bundle_capabilities("toy", Manifest("toy", toy_plan, {}, {}), ServerLimits(), False)["options"]
    assert schema["tempo"] == {
        "form": "number",
        "type": "number",
        "minimum": 0.5,
        "maximum": 4,
        "description": "How fast it swings.",
        "default": 1.0,
    }
    assert schema["sketch"]["contentMediaType"] == "image/*"
    assert "subject" not in schema and "steps" in schema


def test_editors_complete_every_option():
    """The keywords of `Pipeline` are those of the inputs: none is missing, and none is made up."""
    assert get_type_hints(RunOptions).keys() == run_options().keys()


def test_every_option_is_documented_once():
    options = run_options()
    assert all(option.help.endswith(".") for option in options.values())
    assert len({option.help for option in options.values()}) == len(options)


def test_the_command_line_spells_every_option():
    told = CliRunner().invoke(main, ["run", "--help"]).output
    assert all(option.spelling in told for option in run_options().values())


def test_a_flag_is_true_or_false():
    assert run_options()["soft_mask"].problem("no") == "soft_mask: expected True or False, got 'no'"
