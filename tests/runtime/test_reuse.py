"""Which calls of a run compute what: against tables written by hand from the papers' rules."""

import numpy as np
import pytest
from x2i.runtime.bundle.preset import CROSS, Preset, deep_feature
from x2i.runtime.processes.denoiser import FeatureCache, StepPlan

DEEP = deep_feature(1)
FULL, SHALLOW = "full", "shallow"


def ways(preset: Preset, timesteps, segments=None, sides: int = 2, last_segment: int = 0) -> list[StepPlan]:
    reuse, found = FeatureCache(preset, sides, last_segment), []
    for timestep, segment in zip(timesteps, segments or [0] * len(timesteps), strict=True):
        found.append(reuse.next(segment, timestep))
    return found


def kinds(found: list[StepPlan]) -> list[str]:
    return [SHALLOW if any(name != CROSS for name in way.features_in) else FULL for way in found]


def test_without_a_preset_every_call_is_whole():
    assert ways(Preset(), [900, 500, 1]) == [StepPlan(2)] * 3


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_one_call_of_every_few_is_whole(every):
    found = ways(Preset(cache_interval=every), range(1000, 0, -90))
    assert kinds(found) == [FULL if number % every == 0 else SHALLOW for number in range(12)]


def test_whole_calls_give_what_the_others_take():
    assert ways(Preset(cache_interval=2, cache_depth=3), [9, 8]) == [
        StepPlan(2, features_out=(deep_feature(3),)),
        StepPlan(2, features_in=(deep_feature(3),)),
    ]


def test_a_switch_of_segments_is_a_whole_call():
    found = ways(Preset(cache_interval=4), range(9, 0, -1), segments=[0, 0, 1, 1, 1, 1, 1, 1, 1], last_segment=1)
    assert kinds(found) == [FULL, SHALLOW, FULL, SHALLOW, SHALLOW, SHALLOW, FULL, SHALLOW, SHALLOW]


def test_guidance_only_inside_its_interval():
    found = ways(Preset(guidance_interval=(800, 300)), [900, 800, 500, 300, 299])
    assert [way.rows for way in found] == [1, 2, 2, 2, 1]


def test_rows_that_were_not_computed_cannot_be_taken():
    found = ways(Preset(cache_interval=3, guidance_interval=(800, 300)), [900, 700, 600, 200, 100])
    assert [(kind, way.rows) for kind, way in zip(kinds(found), found, strict=True)] == [
        (FULL, 1),
        (FULL, 2),
        (SHALLOW, 2),
        (SHALLOW, 1),
        (FULL, 1),
    ]


def test_an_unguided_run_has_one_row_throughout():
    found = ways(Preset(cache_interval=2, guidance_interval=(800, 300), tgate_from=400), [900, 700, 350, 100], sides=1)
    assert {way.rows for way in found} == {1}


def test_cross_attention_is_kept_at_the_first_call_and_taken_from_then_on():
    found = ways(Preset(tgate_from=500), [900, 501, 500, 400, 1])
    assert found == [
        StepPlan(2),
        StepPlan(2),
        StepPlan(2, features_out=(CROSS,)),
        StepPlan(1, features_in=(CROSS,)),
        StepPlan(1, features_in=(CROSS,)),
    ]


def test_cross_attention_waits_for_the_last_segment():
    found = ways(Preset(tgate_from=500), [400, 300, 200, 100], segments=[0, 0, 1, 1], last_segment=1)
    assert found == [StepPlan(2), StepPlan(2), StepPlan(2, features_out=(CROSS,)), StepPlan(1, features_in=(CROSS,))]


def test_freezing_and_step_caching_together():
    found = ways(Preset(cache_interval=3, tgate_from=500), [900, 800, 500, 400, 300, 200])
    assert found == [
        StepPlan(2, features_out=(DEEP,)),
        StepPlan(2, features_in=(DEEP,)),
        StepPlan(2, features_out=(DEEP, CROSS)),
        StepPlan(1, features_in=(DEEP, CROSS)),
        StepPlan(1, features_in=(DEEP, CROSS)),
        StepPlan(1, features_out=(DEEP,), features_in=(CROSS,)),
    ]


def test_every_way_has_its_variant_among_the_presets():
    for preset in (
        Preset(),
        Preset(cache_interval=3),
        Preset(tgate_from=500),
        Preset(cache_interval=3, tgate_from=500),
    ):
        known = {(variant.features_out, variant.features_in) for variant in preset.variants("denoiser")}
        met = {(way.features_out, way.features_in) for way in ways(preset, range(1000, 0, -50))}
        assert met == known


def test_kept_rows_are_the_conditional_ones_and_cross_attention_is_a_mean():
    reuse = FeatureCache(Preset(cache_interval=3, tgate_from=500), 2, 0)
    way = reuse.next(0, 400)
    rows = np.arange(4.0).reshape(4, 1)
    reuse.keep(way, {"noise": rows, "deep.1": rows, "cross.a": rows})
    taken = reuse.taken(reuse.next(0, 300), 2)
    np.testing.assert_array_equal(taken["deep.1"], [[2.0], [3.0]])
    np.testing.assert_array_equal(taken["cross.a"], [[1.0], [2.0]])
    assert "noise" not in taken
