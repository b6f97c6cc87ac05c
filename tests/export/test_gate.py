"""The gate at export and in `x2i verify`, on real graphs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.errors import GateError
from x2i.export.gate import LIMITS, draw_references, limits_of, measure_gate, worst
from x2i.export.gate_cases import MOST_LANGUAGES, default_cases
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.bundle.writer import file_records, write_manifest
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.gate.record import Category, Closeness, Judged, Limits
from x2i.runtime.load import pipeline_of

SIZE = (16, 24)
LOOSE = Limits(10.0, 0.0, -1.0)


def quick_cases(bundle, most=2):
    return default_cases(bundle.manifest, steps=2, size=SIZE, most=most)


def rewrite_manifest(folder, manifest):
    """With the digests that the folder's files have now."""
    (folder / "manifest.json").unlink()
    write_manifest(folder, replace(manifest, files=file_records(folder)))


@pytest.fixture(scope="module")
def gated(tiny_bundle, tmp_path_factory):
    """A copy of the tiny bundle with the gate of fp32 in it."""
    folder = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("gated") / "bundle")
    bundle = open_bundle(folder)
    pipeline = pipeline_of(bundle, "cpu")
    cases = draw_references(pipeline, folder, quick_cases(bundle))
    gate = measure_gate(pipeline, folder, cases, LIMITS["fp16"])
    rewrite_manifest(folder, replace(bundle.manifest, gate=gate))
    return folder


@pytest.fixture
def spoilt(gated, tmp_path):
    """A copy whose gate another seed drew, as the manifest has it."""
    folder = shutil.copytree(gated, tmp_path / "spoilt")
    manifest = open_bundle(folder).manifest
    shutil.copy(folder / "gate/0/noise.npy", folder / "gate/1/noise.npy")
    rewrite_manifest(folder, manifest)
    return folder


def verify(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_fp32_is_as_close_to_itself_as_can_be(gated):
    gate = open_bundle(gated).manifest.gate
    assert gate.measured == (Closeness(0.0, None, 1.0),) * 2 and gate.accepted == ()
    assert worst(gate.measured) == Closeness(0.0, None, 1.0)


def test_verify_draws_the_cases(gated):
    result = verify(gated)
    assert result.exit_code == 0, result.output
    assert "ok  case 0, " in result.stdout and "latents 0.00%, the same picture, SSIM 1.000" in result.stdout
    assert result.stdout.endswith("2 drawings close enough to fp32's\n")
    limits = "drawings against fp32's: latents within 2.00%, PSNR from 40.0 dB, SSIM from 0.980"
    assert f"{limits}\n" in result.stdout and limits in CliRunner().invoke(main, ["inspect", str(gated)]).stdout


def test_verify_quickly_draws_nothing(spoilt):
    result = verify(spoilt, "--quick")
    assert result.exit_code == 0 and "case 0" not in result.stdout and "nothing drawn" in result.stdout


def test_verify_tells_that_there_is_no_gate(tiny_bundle):
    result = verify(tiny_bundle)
    assert result.exit_code == 0 and "no drawings of fp32 to compare with" in result.stdout
    assert json.loads(verify(tiny_bundle, "--json").stdout)["cases"] == []


def test_verify_fails_where_another_seed_was_drawn(spoilt):
    result = verify(spoilt)
    assert result.exit_code == 2 and "case 1 past the gate on backend cpu" in result.stderr
    assert "ok  case 0" in result.stdout and "FAILED  case 1" in result.stdout
    assert "case 1: latents differ by" in result.stdout


def test_verify_tells_all_in_json(spoilt):
    result = verify(spoilt, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2 and told["failed"] == ["case 1"] and told["backend"] == "cpu"
    assert told["cases"][0]["psnr"] is None and told["cases"][0]["problems"] == []
    assert told["cases"][1]["latents"] > 0.1 and len(told["cases"][1]["problems"]) >= 2


def test_an_altered_reference_is_found(gated, tmp_path):
    folder = shutil.copytree(gated, tmp_path / "altered")
    latents = folder / "gate/0/latents.npy"
    np.save(latents, np.load(latents) * 1.001)
    result = verify(folder)
    assert result.exit_code == 2 and "gate/0/latents.npy: altered" in result.stderr


def measured(gated, limits, **changes):
    """The gate of a pipeline that draws the second case from the first one's noise."""
    bundle = open_bundle(gated)
    cases = bundle.manifest.gate.cases
    cases = (cases[0], replace(cases[1], noise=cases[0].noise))
    return measure_gate(pipeline_of(bundle, "cpu"), gated, cases, limits, **changes)


@pytest.mark.parametrize("precision", LIMITS)
def test_another_seed_is_past_every_precision(gated, precision):
    with pytest.raises(GateError, match=r"case 1: latents differ by[^$]*\nnothing was written; choose a higher"):
        measured(gated, LIMITS[precision])


def test_what_was_accepted_is_told(gated):
    gate = measured(gated, LIMITS["int8"], accept=True)
    assert gate.accepted and all(problem.startswith("case 1: ") for problem in gate.accepted)


def test_nobody_can_accept_what_is_no_picture(gated):
    bundle = open_bundle(gated)
    pipeline = pipeline_of(bundle, "cpu")

    def broken(**options):
        if options.get("seed"):
            raise InputError("latents: expected finite numbers")
        return pipeline(**options)

    with pytest.raises(GateError, match="case 1: latents: expected finite"):
        measure_gate(broken, gated, bundle.manifest.gate.cases, LOOSE, accept=True)


@pytest.mark.parametrize("accept", [False, True])
def test_the_judge_has_a_say(gated, accept):
    judged = Judged("somebody", (Category("food", 50, 1.0, 0.94, 0.6, 0.5),))
    if accept:
        gate = measured(gated, LOOSE, judged=judged, accept=True)
        assert gate.judged == judged and gate.accepted == (
            "judge: 6.0 points of accuracy are lost over 50 drawings, at most 2.0 are allowed",
        )
    else:
        with pytest.raises(GateError, match=r"judge: 6\.0 points"):
            measured(gated, LOOSE, judged=judged)


def test_a_reference_of_one_colour_is_refused(gated, tmp_path):
    bundle = open_bundle(gated)
    pipeline = pipeline_of(bundle, "cpu")

    def flat(**options):
        output = pipeline(**options)
        return replace(output, images=[image.point(lambda level: 0) for image in output.images])

    with pytest.raises(GateError, match="a single colour"):
        draw_references(flat, tmp_path, quick_cases(bundle, most=1))


@pytest.mark.parametrize("system", ["elite", "ip_adapter", "fastcomposer", "sound"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_systems_that_draw_from_more_than_a_prompt(system, request, tmp_path):
    """Pictures and sounds go through files and come back as they were."""
    bundle = open_bundle(request.getfixturevalue(f"{system}_bundle"))
    pipeline = pipeline_of(bundle, "cpu")
    (asked,) = quick_cases(bundle, most=1)
    (case,) = draw_references(pipeline, tmp_path, [asked])
    assert len(case.files()) > 3
    assert np.array_equal(pipeline(**asked).latents, np.load(tmp_path / case.latents))
    assert measure_gate(pipeline, tmp_path, [case], LIMITS["fp16"]).measured == (Closeness(0.0, None, 1.0),)


def test_every_language_is_drawn_once(tiny_bundle):
    manifest = open_bundle(tiny_bundle).manifest
    cases = default_cases(manifest)
    assert [case["language"] for case in cases] == list(manifest.languages[:MOST_LANGUAGES])
    assert len({case["prompt"] for case in cases}) == len({case["seed"] for case in cases}) == len(cases)


def test_the_widest_limits_count():
    both = limits_of(["fp16", "int8"])
    assert both.latents == LIMITS["int8"].latents > LIMITS["fp16"].latents
    assert limits_of(["fp32"]) == LIMITS["fp32"]
