"""An ensemble of experts, exported and run without torch, against every recorded context, network and run."""

import numpy as np
import pytest
from x2i.runtime.inputs.paint import painted_name
from x2i.runtime.paint.gains import PaintGains
from x2i.runtime.paint.maps import latents_grid, region_columns

from tests.export.cascades.ediff_i_cases import (
    HOME,
    NAMES,
    case_names,
    contexts,
    experts_case,
    pipeline_of,
    prompts,
    whole,
)
from tests.goldens import golden_arrays
from tests.numerics import assert_close, assert_near, assert_same_picture

CASES = [name for name in case_names() if "pww" not in name and "removed" not in name]
RUNS = pytest.mark.parametrize("name", CASES or ["none"])


@RUNS
def test_a_run_is_the_recorded_one(name):
    case = experts_case(name)
    drawing, arrays = pipeline_of(case), case.arrays
    for row in range(case.settings["batch"]):
        walk, states, last = drawing.steps(prompts()[row], **case.options(row)), [], None
        for step in walk:
            states.append(step.state[0])
            last = step
        sides = (("uncond", 0), ("cond", -1)) if case.guided else (("cond", -1),)
        for side, number in sides:
            # The order of the context's tokens shows in no picture.
            assert_close(walk.slots["context"][number], arrays[f"context_{side}"][row], "ediffi-net")
            assert_close(walk.slots["added"][number], arrays[f"global_{side}"][row], "ediffi-net")
        for state, expected in zip(states, arrays["x_after_step"][:, row], strict=True):
            assert_near(state, expected, "ediffi-run")
        output = walk.finish(last)
        assert list(output.segments) == [_number(case, t) for t in arrays["timesteps"]]
        assert_same_picture(np.asarray(output.images[0]), arrays["image_u8"][row], share=0.1)


def _number(case, timestep):
    return next(n for n, each in enumerate(case.experts) if each["t_from"] <= timestep < each["t_below"])


def test_contexts_are_the_recorded_ones():
    """Every subset of conditions that may be left out, for both rows."""
    recorded, session = contexts(), whole().session
    text = session("text_encoder")(input_ids=recorded["clip_ids"])
    assert_close(text["clip_states"], recorded["clip_last_hidden_state"], "ediffi-net")
    assert_close(text["clip_pooled"], recorded["clip_pooled"], "ediffi-net")
    t5 = session("t5_encoder")(input_ids=recorded["t5_ids"], attention_mask=recorded["t5_mask"])
    assert_close(t5["t5_states"], recorded["t5_last_hidden_state_masked"], "ediffi-net")
    seen = session("image_encoder")(pixels=recorded["pixel_values"])["image_embedding"]
    assert_close(seen, recorded["image_embeds"], "ediffi-net")
    dropped = [name.removeprefix("context_drop_") for name in recorded if name.startswith("context_drop_")]
    assert len(dropped) == 2 ** len(NAMES)
    for names in dropped:
        kept = np.array([[name not in names for name in NAMES]] * len(seen), np.float32)
        made = session("context")(kept=kept, **text, **t5, style_embedding=seen)
        assert_close(made["context"], recorded[f"context_drop_{names}"], "ediffi-net")
        assert_close(made["added"], recorded[f"global_drop_{names}"], "ediffi-net")


@pytest.fixture(scope="module")
def experts():
    return [name.removeprefix("denoiser_") for name in whole().bundle.manifest.plan.denoisers()]


def noise_of(expert, latents, timestep, context, added, graph="", **others):
    session = whole().session
    return session(f"denoiser_{expert}{graph}")(
        latents=latents,
        timestep=np.full(len(latents), timestep, np.float32),
        added=added,
        **session(f"projection_{expert}")(context=context),
        **others,
    )["noise"]


def test_the_experts_are_the_recorded_networks(experts):
    nets, recorded = golden_arrays(f"{HOME}/unets.npz"), contexts()
    sample, wide = nets["sample"], nets["sample_nonsquare"]
    context, added = recorded["context_drop_none"], recorded["global_drop_none"]
    seen = set()
    for expert in experts:
        for name in (name for name in nets if name.startswith(f"{expert}_t")):
            timestep, _, what = name.removeprefix(f"{expert}_t").partition("_")
            seen.add(what)
            if what == "nonsquare":
                made = noise_of(expert, wide, int(timestep), context[:1], added[:1])
            elif what == "masked":
                made = masked_noise(expert, sample, int(timestep), context, added, nets["context_mask"])
            elif what.startswith("removed_"):
                without = what.removeprefix("removed_")
                made = noise_of(
                    expert,
                    sample,
                    int(timestep),
                    recorded[f"context_removed_{without}"],
                    recorded[f"global_drop_{without}"],
                )
            else:
                names = what or "drop_none"
                made = noise_of(
                    expert, sample, int(timestep), recorded[f"context_{names}"], recorded[f"global_{names}"]
                )
            assert_close(made, nets[name], "ediffi-net")
    assert {"", "nonsquare", "masked"} <= seen


def masked_noise(expert, latents, timestep, context, added, mask):
    """By what is added to the keys, without anything painted."""
    others = unpainted(latents, context.shape[1]) | {"key_bias": np.where(mask > 0, 0, -10000).astype(np.float32)}
    return noise_of(expert, latents, timestep, context, added, ".paint", **others)


def unpainted(latents, tokens):
    rows, grid = len(latents), latents.shape[2:]
    maps = {
        painted_name(factor): np.zeros((rows, np.prod(latents_grid(grid, factor)), tokens), np.float32)
        for factor in whole().bundle.manifest.plan.paint.factors
    }
    gains = dict.fromkeys(("gain_max", "gain_deviation"), np.zeros(rows, np.float32))
    return maps | gains | {"key_bias": np.zeros((rows, tokens), np.float32)}


def test_words_are_painted_into_every_expert():
    """Over the columns of both texts, on the conditional side alone."""
    case = next((experts_case(name) for name in case_names() if "pww" in name), None)
    if case is None:
        pytest.skip("the goldens have no run with painted words")
    drawing, arrays, settings = pipeline_of(case), case.arrays, case.settings
    options = case.options(0)
    request = drawing.check(prompts()[0], **options)
    grid, tokens = arrays["initial_noise"].shape[2:], arrays["context_cond"].shape[1]
    maps = {}
    for factor in drawing.bundle.manifest.plan.paint.factors:
        queries = latents_grid(grid, factor)
        columns = np.zeros((int(np.prod(queries)), tokens), np.float32)
        for region in settings["regions"]:
            plane, (top, bottom, left, right) = np.zeros((128, 128), np.float32), region["box_yx"]
            plane[top:bottom, left:right] = region["value"]
            columns[:, region["columns"]] += region_columns(plane, queries, 128 // grid[0])[:, None]
        assert_close(columns, arrays[f"w_{len(columns)}"], "painted-map")
        maps[painted_name(factor)] = np.stack([np.zeros_like(columns), columns])
    walk = drawing.steps(prompts()[0], **options)
    assert request.sampler is not None
    gains = PaintGains(1.0, "max")
    state = arrays["initial_noise"]
    for number, timestep in enumerate(arrays["timesteps"]):
        sigma = request.sampler.sigma_at(float(timestep))
        assert sigma == pytest.approx(float(arrays["sigma_used"][number]), rel=1e-4)
        expert = drawing.bundle.manifest.plan.latents.segments[_number(case, timestep)].graph.removeprefix("denoiser_")
        maximum, deviation = gains.at(sigma, 2)
        made = noise_of(
            expert,
            np.repeat(state, 2, axis=0),
            timestep,
            np.concatenate([arrays["context_uncond"], arrays["context_cond"]]),
            np.concatenate([arrays["global_uncond"], arrays["global_cond"]]),
            ".paint",
            **maps,
            gain_max=maximum,
            gain_deviation=deviation,
            key_bias=np.zeros((2, tokens), np.float32),
        )
        assert_close(made[:1], arrays["eps_uncond"][number], "ediffi-net")
        assert_close(made[1:], arrays["eps_cond"][number], "ediffi-net")
        state = arrays["x_after_step"][number]
    walk.close()


@pytest.mark.parametrize("name", case_names() or ["none"])
def test_a_sampler_fed_with_the_recorded_predictions(name):
    """Its history goes on where another expert takes over."""
    case = experts_case(name)
    arrays, scale = case.arrays, case.settings["guidance"]
    options = case.options(0)
    sampler = pipeline_of(case).check(prompts()[0], **options).sampler
    guided = arrays["eps_cond"]
    if case.guided:
        guided = arrays["eps_uncond"] + scale * (arrays["eps_cond"] - arrays["eps_uncond"])
    predictions, draws = iter(guided), iter(arrays.get("step_noise", ()))
    walk = sampler.run(arrays["initial_noise"], lambda x, timestep: next(predictions), lambda: next(draws))
    assert sampler.timesteps == tuple(arrays["timesteps"])
    for state, expected in zip(walk, arrays["x_after_step"], strict=True):
        assert_close(state, expected, "ediffi-step")


@pytest.mark.parametrize("name", [name for name in case_names() if "removed" in name] or ["none"])
def test_a_condition_that_is_removed_with_its_tokens(name):
    """The prompt's side has fewer tokens than the other: two calls, of any length each."""
    case = experts_case(name)
    arrays, drawing = case.arrays, pipeline_of(case)
    sampler = drawing.check(prompts()[0], **case.options(0)).sampler

    def predicted(latents, timestep):
        expert = case.experts[_number(case, timestep)]["unet"].removeprefix("unet_")
        sides = [
            noise_of(expert, latents, timestep, arrays[f"context_{side}"], arrays[f"global_{side}"])
            for side in ("uncond", "cond")
        ]
        return sides[0] + np.float32(case.settings["guidance"]) * (sides[1] - sides[0])

    walk = sampler.run(arrays["initial_noise"], predicted, lambda: None)
    for state, expected in zip(walk, arrays["x_after_step"], strict=True):
        assert_near(state, expected, "ediffi-run")


def test_a_boundary_off_by_one_is_noticed():
    """A timestep that equals a boundary is the noisier expert's."""
    met = 0
    for name in CASES:
        case = experts_case(name)
        ends = {each["t_from"] for each in case.experts[:-1]}
        for number, timestep in enumerate(case.arrays["timesteps"]):
            if int(timestep) in ends:
                met += 1
                expert = case.experts[_number(case, timestep) + 1]["unet"].removeprefix("unet_")
                before = case.arrays["x_after_step"][number - 1] if number else case.arrays["initial_noise"]
                wrong = noise_of(expert, before, timestep, case.arrays["context_cond"], case.arrays["global_cond"])
                right = case.arrays["eps_cond"][number]
                assert np.linalg.norm(wrong - right) / np.linalg.norm(right) > 0.1
    assert met or not case_names()
