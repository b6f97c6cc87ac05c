"""Which segment of the plan serves which UNet call: by noise level, and by the delay of FastComposer's subjects."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.delay import Delay
from x2i.runtime.processes.segment import Segment

from tests.goldens import golden
from tests.runtime.toy import plan, toy_pipeline

PLAIN = Segment("denoiser", 1000, {"context": "context"})
SUBJECTS = Segment("denoiser", 1000, {"context": "features"}, Delay(2))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return toy_pipeline(tmp_path_factory.mktemp("delayed") / "toy", plan=plan((PLAIN, SUBJECTS)))[0]


def served(pipeline, **options):
    return pipeline("red apple", language="French", **options).segments


def test_text_alone_serves_the_calls_that_the_original_counts(pipeline):
    """Every alpha of the table at every number of steps, with the repeated call of PNDM and without one."""
    table = json.loads(golden("fastcomposer/switch_table.json").read_text("utf-8"))
    assert len(table["rows"]) > 100
    for steps, alpha, start, pndm, ddim in table["rows"]:
        assert Delay(10).last_call(steps, alpha, None) == start
        for sampler, text_alone in (("pndm", pndm), ("ddim", ddim)) if steps <= 10 else ():
            if sampler == "pndm" and steps < 2:
                continue
            flags = served(pipeline, steps=steps, sampler=sampler, alpha=alpha)
            assert flags == (0,) * text_alone + (1,) * (len(flags) - text_alone), (steps, alpha, sampler)


def test_alpha_counts_in_doubles():
    assert Delay(10).last_call(10, np.float32(0.2), None) == (1 - float(np.float32(0.2))) * 10


def test_a_preset_of_fewer_steps_waits_for_its_share(tmp_path):
    """The plain loop's number of calls would be the whole run; what the caller says goes before."""
    presets = {"few": Preset("ddim", 5, delay=0.4), "plain": Preset("ddim", 5)}
    pipeline = toy_pipeline(
        tmp_path / "toy", plan=replace(plan((PLAIN, replace(SUBJECTS, delay=Delay(4)))), presets=presets)
    )[0]
    assert served(pipeline, preset="few") == (0, 0, 0, 1, 1)
    assert served(pipeline, preset="few", steps=10) == (0,) * 5 + (1,) * 5
    assert served(pipeline, preset="few", start_merge_step=0) == (0, 1, 1, 1, 1)
    assert served(pipeline, preset="few", alpha=0.2) == (0, 0, 0, 0, 0)
    with pytest.warns(UserWarning, match="all 5 UNet calls see the text alone"):
        assert set(served(pipeline, preset="plain")) == {0}


@pytest.mark.parametrize(("given", "text_alone"), [({}, 3), ({"start_merge_step": 0}, 1), ({"start_merge_step": 4}, 5)])
@pytest.mark.parametrize("sampler", ["pndm", "plms", "euler_a"])
def test_calls_are_counted_whatever_the_sampler(pipeline, sampler, given, text_alone):
    """PLMS asks twice in its first step, and both calls count."""
    flags = served(pipeline, steps=5, sampler=sampler, **given)
    assert len(flags) == {"pndm": 6, "plms": 6, "euler_a": 5}[sampler]
    assert flags == (0,) * text_alone + (1,) * (len(flags) - text_alone)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_delay_past_the_end_is_told(pipeline):
    output = pipeline("red apple", language="French", steps=4, sampler="ddim", alpha=0.0)
    assert set(output.segments) == {0} and "see the text alone" in output.warnings[-1]
    with pytest.warns(UserWarning, match="all 5 UNet calls see the text alone"):
        pipeline.steps("red apple", language="French", steps=4, sampler="plms", start_merge_step=4)
    with pytest.warns(UserWarning, match="all 5 UNet calls"):
        assert set(pipeline("red apple", language="French", steps=4, sampler="pndm", alpha=0.0).segments) == {0}
    assert not pipeline("red apple", language="French", steps=4, sampler="ddim", alpha=1.0).warnings


def test_the_switch_changes_the_picture(pipeline):
    latents = [
        pipeline("red apple", language="French", steps=5, sampler="ddim", start_merge_step=n).latents for n in range(6)
    ]
    assert all(np.abs(a - b).max() > 1e-4 for a, b in pairwise(latents[:5]))
    assert np.array_equal(latents[4], latents[5])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"alpha": 1.5}, "alpha .* expected a share from 0"),
        ({"alpha": float("nan")}, "alpha .* expected a share from 0"),
        ({"alpha": "0.5"}, "alpha .* expected a share from 0"),
        ({"start_merge_step": True}, "start_merge_step: expected a whole number"),
        ({"start_merge_step": -1}, "start_merge_step: expected a whole number"),
        ({"start_merge_step": 2.5}, "start_merge_step: expected a whole number"),
        ({"alpha": 0.5, "start_merge_step": 2}, "give one of the two"),
        ({"alpha": 0.5, "steps": "5"}, "steps: expected"),
    ],
)
def test_bad_delays_are_refused(pipeline, options, line):
    with pytest.raises(InputError, match=line):
        served(pipeline, **options)


def test_a_bundle_without_delay_takes_none(tmp_path):
    with pytest.raises(InputError, match="alpha: this bundle takes none"):
        served(toy_pipeline(tmp_path / "toy")[0], alpha=0.5)


def test_a_plan_begins_with_a_segment_that_waits_for_nothing():
    graphs = {"encoder", "translator.French", "decoder", "denoiser"}
    assert not plan((PLAIN, SUBJECTS)).problems(graphs)
    assert "serves the first call" in plan((SUBJECTS,)).problems(graphs)[0]
