"""UniD3's process against the authors' functions and traced runs, for every class of both modalities; what a run may be
told; and what would pass in silence if it were done wrong."""

from typing import Any

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.option import CallContext, PreparedInputs
from x2i.runtime.token_samplers.joint.modality import KEPT, MASKED, Modality, modalities
from x2i.runtime.token_samplers.joint.process import JointDiffusion
from x2i.runtime.token_samplers.log_probabilities import (
    LEAST,
    LOG_TINY,
    gumbel,
    log_add_exp,
    log_one_hot,
    log_sum_exp,
    truncated,
)
from x2i.runtime.token_samplers.mask_transitions import transition_shares
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.goldens import golden_arrays
from tests.numerics import assert_close
from tests.runtime.token_samplers.unid3_runs import (
    Arrays,
    JointRun,
    as_read,
    classes_last,
    in_order,
    joint_runs,
    states,
    token_run,
    uniforms,
)

NETWORKS = {"pair": ("image", "text"), "txt": ("image",), "img": ("text",)}
"""The goldens' names of the authors' networks, and what each draws."""
BUFFERS = {"at": "kept", "ct": "masked", "1_min_ct": "unmasked"}


def functions() -> Arrays:
    return golden_arrays("unid3/functions.npz")


def parts_of(arrays: Arrays) -> dict[str, Modality]:
    steps, image_classes, text_classes, image_length, text_length = map(int, arrays["T_KI_KT_LI_LT"])
    return modalities(image_length, image_classes, text_length, text_classes, steps)


def process_of(parts: dict[str, Modality], steps: int) -> JointDiffusion:
    image, text = parts["image"], parts["text"]
    return JointDiffusion(image.length, image.classes, text.length, text.classes, steps)


def state_of(tokens: np.ndarray, drawn: tuple[str, ...], parts: dict[str, Modality]) -> np.ndarray:
    """A whole state around the tokens [B, n] of what is drawn."""
    length = sum(part.length for part in parts.values())
    state = np.full((len(tokens), length), parts["image"].mask)
    first = parts[drawn[0]].first
    state[:, first : first + tokens.shape[1]] = tokens
    return state


def whole(part: Modality, made: Any) -> np.ndarray:
    """An EarlierTokens as log-probabilities of all ids, where no token of the other modality stands."""
    values = np.empty((*made.values.shape[:-1], part.mask + 1), np.float32)
    values[..., part.offset : part.offset + part.classes] = made.values[..., : part.classes]
    values[..., part.other_ids] = made.values[..., part.classes : part.classes + 1]
    values[..., part.mask] = made.values[..., -1]
    return values


def posteriors(arrays: Arrays, network: str, divided_as_other: bool) -> np.ndarray:
    """[n, places, ids], as the golden has them with classes last."""
    parts, drawn, made = parts_of(arrays), NETWORKS[network], []
    for x_t, log_x0, t in zip(arrays[f"{network}_x_t"], arrays[f"{network}_log_x0"], arrays["t"], strict=True):
        state, clean, begin, found = state_of(x_t[None], drawn, parts), classes_last(log_x0), 0, []
        for name in drawn:
            part = parts[name]
            own = clean[None, begin : begin + part.length, part.offset : part.offset + part.classes]
            found.append(whole(part, part.posterior(own, state, int(t), divided_as_other))[0])
            begin += part.length
        made.append(np.concatenate(found))
    return np.stack(made)


def test_the_schedule_is_the_authors() -> None:
    arrays, parts = functions(), parts_of(functions())
    for name, kind in (("image", "img"), ("text", "txt")):
        own = parts[name].own
        for transition, cumulative in ((own.one, ""), (own.whole, "cumprod_")):
            found = {
                key.replace("1_min_", f"1_min_{cumulative}") if "1_min" in key else cumulative + key: getattr(
                    transition, value
                )
                for key, value in BUFFERS.items()
            } | {f"{cumulative}bt_{kind}": transition.replaced}
            for key, values in found.items():
                expected = arrays[f"buffer_log_{key}"]
                assert np.array_equal(np.isfinite(values), np.isfinite(expected))
                finite = np.isfinite(expected)
                assert_close(values[finite], expected[finite], "schedule-logs")


def test_the_released_schedule_is_the_authors() -> None:
    arrays = functions()
    steps = len(arrays["schedule_released_at"])
    for kind in ("img", "txt"):
        names = {"kept": "at", "replaced": f"bt_{kind}", "masked": "ct"}
        # How many classes there are is what the first timestep shares out among them.
        share = 1 - arrays["schedule_released_at"][0] - arrays["schedule_released_ct"][0]
        classes = round(share / arrays[f"schedule_released_bt_{kind}"][0])
        one, all_so_far = transition_shares(KEPT, MASKED, steps, classes)
        for name, key in names.items():
            assert_close(getattr(one, name), arrays[f"schedule_released_{key}"], "schedule")
            cumulative = key.replace("t", "tt", 1)
            assert_close(getattr(all_so_far, name), arrays[f"schedule_released_{cumulative}"][:-1], "schedule")


@pytest.mark.parametrize(("network", "divided_as_other"), [("pair", False), ("txt", True), ("img", True)])
def test_the_posterior_is_the_authors_for_every_class(network: str, divided_as_other: bool) -> None:
    arrays = functions()
    made = posteriors(arrays, network, divided_as_other)
    assert_close(made, classes_last(arrays[f"{network}_posterior"]), "unid3-posterior")


@pytest.mark.parametrize("network", ["txt", "img"])
def test_the_clean_rule_is_not_the_authors(network: str) -> None:
    arrays = functions()
    made = posteriors(arrays, network, divided_as_other=False)
    assert_close(made, classes_last(arrays[f"{network}_posterior_if_pair_rule"]), "unid3-posterior")
    with pytest.raises(AssertionError, match="unid3-posterior"):
        assert_close(made, classes_last(arrays[f"{network}_posterior"]), "unid3-posterior")


def dense_posterior(part: Modality, log_x0: np.ndarray, tokens: np.ndarray, t: int, quirk: bool) -> np.ndarray:
    """The formula of the specification, over all ids: float32 [..., places, ids]."""
    ids = part.mask + 1
    owned = np.zeros(ids - 1, bool)
    owned[part.offset : part.offset + part.classes] = True
    one, all_so_far = (
        np.where(owned, getattr(part.own, kind).replaced[:, None], getattr(part.other, kind).replaced[:, None])
        for kind in ("one", "whole")
    )
    divided = part.other.whole.replaced[:, None] if quirk else all_so_far
    clean = np.full((*tokens.shape, ids - 1), LEAST)
    clean[..., owned] = log_x0
    own, masked = log_one_hot(tokens, ids)[..., :-1], (tokens == part.mask)[..., None]
    a = np.where(masked, part.own.whole.masked[t], log_add_exp(own + part.own.whole.kept[t], divided[t]))
    b = np.where(masked, part.own.one.masked[t], log_add_exp(own + part.own.one.kept[t], one[t]))
    q = np.concatenate([clean - a, np.full((*tokens.shape, 1), LOG_TINY, np.float32)], axis=-1)
    scale = log_sum_exp(q)
    q = q - scale
    real = log_add_exp(q[..., :-1] + part.own.whole.kept[t - 1], all_so_far[t - 1] if t else np.float32(-np.inf))
    mask = log_add_exp(q[..., -1:] + part.own.whole.unmasked[t - 1], part.own.whole.masked[t - 1])
    b = np.concatenate([b, np.where(masked, np.float32(0), LOG_TINY)], axis=-1)
    return np.clip(np.concatenate([real, mask], axis=-1) + b + scale, LEAST, 0)


@pytest.mark.parametrize("quirk", [False, True])
@pytest.mark.parametrize("name", ["image", "text"])
def test_tokens_of_the_other_modality_stand_and_are_drawn_as_in_the_formula(name: str, quirk: bool) -> None:
    """The draws are such that the other modality's classes win often, though their share is a millionth."""
    random, steps, count = np.random.default_rng(7), 9, 40
    part = modalities(5, 7, 3, 11, steps)[name]
    chosen = {"own": 0, "other": 0, "mask": 0}
    for t in range(steps):
        state = random.integers(0, part.mask + 1, (count, 8))
        state[random.random(state.shape) < 0.3] = part.mask
        log_x0 = 3 * random.standard_normal((count, part.length, part.classes), np.float32)
        log_x0 -= log_sum_exp(log_x0)
        tokens = state[:, part.places]
        earlier = part.posterior(log_x0, state, t, quirk)
        dense = dense_posterior(part, log_x0, tokens, t, quirk)
        standing = (tokens >= part.other_ids.start) & (tokens < part.other_ids.stop)
        found = np.take_along_axis(dense, tokens[..., None], axis=-1)[..., 0]
        assert_close(earlier.standing[standing], found[standing], "unid3-posterior")
        made = whole(part, earlier)
        np.put_along_axis(
            made,
            tokens[..., None],
            np.where(standing, earlier.standing, np.take_along_axis(made, tokens[..., None], axis=-1)[..., 0])[
                ..., None
            ],
            axis=-1,
        )
        assert_close(made, dense, "unid3-posterior")
        uniform = random.random(dense.shape, np.float32)
        favoured = random.random(dense.shape[:2]) < 0.5
        uniform[..., part.other_ids] = np.where(favoured[..., None], 1 - uniform[..., part.other_ids] * 1e-7, 0.5)
        expected = (dense + gumbel(uniform)).argmax(axis=-1)
        drawn = part.draw(earlier, state, uniform)
        assert np.array_equal(drawn, expected)
        chosen["mask"] += int((drawn == part.mask).sum())
        chosen["other"] += int(((drawn >= part.other_ids.start) & (drawn < part.other_ids.stop)).sum())
        chosen["own"] += int(((drawn >= part.offset) & (drawn < part.offset + part.classes)).sum())
    assert all(chosen.values()), chosen


def traced_runs() -> list[JointRun]:
    return [run for run in joint_runs() if "logp_x0" in run.arrays]


def said(run: JointRun, parts: dict[str, Modality]) -> list[Arrays]:
    """What the network said at each call, as log-probabilities before the truncation, by the names of our logits."""
    clean = classes_last(run.arrays["logp_x0"])
    return [
        {
            f"{name}_logits": values[:, part.places, part.offset : part.offset + part.classes]
            for name, part in parts.items()
            if values[:, part.places].size
        }
        for values in clean
    ]


def test_a_traced_run_is_walked_token_by_token() -> None:
    parts, steps = parts_of(functions()), int(functions()["T_KI_KT_LI_LT"][0])
    length = sum(part.length for part in parts.values())
    for run in traced_runs():
        read: list[np.ndarray] = []
        predict = as_read(in_order(said(run, parts), dict), read)
        noise, slots = run.noise(parts["image"].length), run.slots(parts["text"].classes)
        count = run.arrays["x_in"].shape[1]
        left = list(states(process_of(parts, steps), token_run(predict, noise, count, length, run.values, slots)))
        assert np.array_equal(np.stack(read), run.arrays["x_in"]), run.name
        expected = run.last_state(parts["text"].offset)
        assert np.array_equal(left[-1][:, : expected.shape[1]], expected), run.name


def test_every_posterior_and_draw_of_a_traced_run_is_the_authors() -> None:
    parts = parts_of(functions())
    for run in traced_runs():
        arrays, draws = run.arrays, run.noise(parts["image"].length)
        for call, logits in enumerate(said(run, parts)):
            state, t = arrays["x_in"][call].astype(np.int64), int(arrays["posterior_t"][call])
            for name in NETWORKS[run.network]:
                part, log_x0 = parts[name], truncated(logits[f"{name}_logits"], run.case["truncation"])
                earlier = part.posterior(log_x0, state, t, run.network == "txt")
                expected = classes_last(arrays["posterior"][call])[:, part.places]
                assert_close(whole(part, earlier), expected, "unid3-posterior")
                drawn = part.draw(earlier, state, draws[name][call])
                assert np.array_equal(drawn, arrays["draw_tokens"][run.counted[call]][:, part.places]), run.name


def test_the_draws_that_are_left_out_change_nothing() -> None:
    """Those at the start, and the second of a step: whatever is drawn by them stood there before."""
    parts, left_out = parts_of(functions()), 0
    mask = parts["image"].mask
    for run in joint_runs():
        tokens, counted = run.arrays["draw_tokens"], set(run.counted)
        for number in (number for number in range(len(tokens)) if number not in counted):
            left_out += 1
            if number:
                assert np.array_equal(tokens[number], tokens[number - 1]), run.name
            elif "known_image" not in run.arrays:
                assert (tokens[0] == mask).all(), run.name
    assert left_out > len(joint_runs()) // 2


def test_the_draw_at_the_start_is_none_of_the_first_call() -> None:
    """Whoever takes the first recorded draw for the first call walks elsewhere."""
    parts, steps = parts_of(functions()), int(functions()["T_KI_KT_LI_LT"][0])
    length = sum(part.length for part in parts.values())
    for run in traced_runs():
        draws = uniforms(run.arrays["noise_u16"])[: len(run.counted)]
        image_length, read = parts["image"].length, []
        noise = {"image": draws[:, :, :image_length], "text": draws[:, :, image_length:]}
        predict = as_read(in_order(said(run, parts), dict), read)
        slots, count = run.slots(parts["text"].classes), run.arrays["x_in"].shape[1]
        list(states(process_of(parts, steps), token_run(predict, noise, count, length, run.values, slots)))
        assert not np.array_equal(np.stack(read), run.arrays["x_in"]), run.name


def test_timesteps_and_truncation_are_those_of_the_authors_loops() -> None:
    parts, steps = parts_of(functions()), int(functions()["T_KI_KT_LI_LT"][0])
    for run in joint_runs():
        calls = process_of(parts, steps)._calls(run.values)
        assert [call.timestep for call in calls] == run.arrays["network_t"].tolist(), run.name
        if len(run.arrays["posterior_t"]):
            assert [call.posterior_timestep for call in calls] == run.arrays["posterior_t"].tolist(), run.name


def test_other_strides_and_the_last_timestep_would_be_other_runs() -> None:
    """Where the last timestep is no multiple of the stride, it is not visited."""
    process = JointDiffusion(4, 5, 3, 6, steps=20)
    values = {"fast": 6, "truncation": None, "untruncated": False, "steps": None}
    both = [process._calls(values | {"loop": loop}) for loop in ("posterior", "chain")]
    assert [[call.timestep for call in calls] for calls in both] == [[18, 12, 6, 0]] * 2
    assert [[call.posterior_timestep for call in calls] for calls in both] == [[12, 6, 0, 0], [12, 6, 6, 0]]
    renoised = process._calls(values | {"loop": "renoise", "fast": None})
    assert [call.timestep for call in renoised] == [10, 0]
    assert len(process._calls(values | {"loop": None, "fast": None})) == 20


def prepared(prompt: str | None = None, picture: str = "", rows: int = 1, **given: Any) -> PreparedInputs:
    """What a call makes of itself; `picture` names the slots that its picture filled."""
    process = JointDiffusion(4, 5, 3, 6, steps=20)
    values = {"fast": None, "truncation": None, "untruncated": False, "loop": None, "steps": None}
    made = PreparedInputs(slots={slot: np.ones((1, 4), bool) for slot in picture.split()})
    grid = given.pop("grid", (1, 7))
    process.prepare(CallContext(values | given, prompt, None, rows, process.steps, grid=grid), made)
    return made


@pytest.mark.parametrize(
    ("given", "draws_text"),
    [
        ({"prompt": "a bird"}, False),
        ({"prompt": ""}, False),
        ({}, True),
        ({"picture": "start_pixels"}, True),
        ({"picture": "start_tokens"}, True),
        ({"prompt": "a <mask> bird"}, True),
        ({"prompt": "a &lt;MASK&gt; bird"}, True),
        ({"prompt": "a <mask> bird", "picture": "start_pixels"}, True),
        ({"prompt": "a bird", "picture": "start_pixels known"}, True),
    ],
)
def test_what_is_given_says_what_is_drawn(given: dict[str, Any], draws_text: bool) -> None:
    made = prepared(**given)
    assert not made.problems
    assert made.slots["draws_image"].tolist() == [True] and made.slots["draws_text"].tolist() == [draws_text]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"prompt": "a bird", "picture": "start_pixels"}, "prompt: expected something to draw"),
        ({"prompt": "a bird", "loop": "chain"}, "loop: is for pictures and captions drawn together"),
        ({"picture": "start_tokens", "loop": "posterior"}, "loop: is for"),
        ({"grid": (4, 2)}, "plan: expected a state of 4 and 3 tokens, got one of 4 x 2"),
        ({"untruncated": True, "truncation": 0.5}, "truncation: is switched off"),
        ({"fast": 21}, "fast: expected at most the 20"),
        ({"steps": 0}, "steps: expected a whole number from 1 to 20"),
        ({"steps": 21}, "steps: expected a whole number from 1 to 20"),
        ({"steps": 2.5}, "steps: expected a whole number from 1 to 20"),
        ({"steps": 9}, "steps: expected a number that some stride makes, such as 7, got 9"),
        ({"steps": 20, "fast": 2}, "steps: expected a number that some stride makes, such as 10, got 20"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], problem: str) -> None:
    (told,) = prepared(**given).problems
    assert told.startswith(problem)


def test_a_number_of_steps_stands_for_a_stride() -> None:
    process = JointDiffusion(4, 5, 3, 6, steps=20)
    values = {"fast": None, "truncation": None, "untruncated": False, "loop": None}
    for count in (1, 2, 3, 4, 5, 7, 10, 20):
        assert not prepared(steps=count).problems
        assert len(process._calls(values | {"steps": count})) == count


def random_run(process: JointDiffusion, slots: Arrays, **given: Any) -> tuple[list[np.ndarray], list[Any]]:
    """The states read and the steps of a run from random logits and noise, for two pictures."""
    random, count = np.random.default_rng(5), 2
    length = process.image_length + process.text_length
    read: list[np.ndarray] = []

    def say(tokens: np.ndarray, timestep: Any) -> Arrays:
        return {
            "image_logits": random.standard_normal((count, process.image_length, process.image_classes), np.float32),
            "text_logits": random.standard_normal((count, process.text_length, process.text_classes), np.float32),
        }

    values = {"fast": None, "truncation": None, "untruncated": False, "loop": None, "steps": None} | given
    run = TokenRun(as_read(say, read), TokenNoise(3, count), count, (1, length), values, slots)
    steps = list(process.walk(run))
    assert len(steps) == process.step_count(run)
    return read, steps


def test_what_is_given_stands_in_every_state() -> None:
    process = JointDiffusion(4, 5, 3, 6, steps=8)
    known = np.array([[True, False, True, True]])
    slots = {
        "draws_text": np.array([True]),
        "start_tokens": np.array([[4, 0, 1, 2]]),
        "known": known,
        "input_ids": np.array([[5, 6, 0], [6, 1, 6]]),
    }
    read, steps = random_run(process, slots)
    for state in (*read, *(step.tokens for step in steps), *(step.likely() for step in steps)):
        assert (state[:, :4][:, known[0]] == [4, 1, 2]).all()
        assert (state[0, [4, 6]] == [5 + 5, 5 + 0]).all() and state[1, 5] == 5 + 1
    last = steps[-1].tokens
    assert (last[:, :4] < 5).all() and ((last[:, 4:] >= 5) & (last[:, 4:] < 11)).all()


@pytest.mark.parametrize(
    ("slot", "tokens", "problem"),
    [
        ("start_tokens", np.array([[0, 5, 1, 2]]), r"image tokens: expected int64 \[1 or 2, 4\] from 0 to 4"),
        ("start_tokens", np.array([[0, 1, 2]]), "image tokens: expected"),
        ("input_ids", np.array([[0, 7, 1]]), r"text tokens: expected int64 \[1 or 2, 3\] from 0 to 6, .* to 7"),
        ("input_ids", np.array([[0, -1, 1]]), "text tokens: expected"),
    ],
)
def test_tokens_of_another_bundle_are_refused(slot: str, tokens: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        random_run(JointDiffusion(4, 5, 3, 6, steps=8), {"draws_text": np.array([True]), slot: tokens})


def test_a_seed_draws_the_same_tokens_whatever_is_drawn_beside() -> None:
    process = JointDiffusion(4, 5, 3, 6, steps=8)
    slots = {"draws_text": np.array([True])}
    one, other = (random_run(process, slots)[1][-1].tokens for _ in range(2))
    assert np.array_equal(one, other)


def test_a_picture_ends_in_classes_that_can_be_decoded() -> None:
    """Noise that belongs on the first state masks a token now and then."""
    process = JointDiffusion(4, 5, 3, 6, steps=8)
    mask, length, count = 11, 7, 1
    logits = {
        "image_logits": np.eye(5, dtype=np.float32)[[[2, 0, 4, 1]]],
        "text_logits": np.zeros((count, 3, 6), np.float32),
    }
    noise = {name: np.full((1, count, n, mask + 1), 0.5, np.float32) for name, n in (("image", 4), ("text", 3))}
    for draws in noise.values():
        draws[..., mask] = np.nextafter(np.float32(1), np.float32(0))
    values = {"fast": 8, "truncation": None, "untruncated": False, "loop": "renoise", "steps": None}
    run = token_run(lambda *_: logits, noise, count, length, values, {"draws_text": np.array([True])})
    (step,) = process.walk(run)
    assert step.tokens.tolist() == [[2, 0, 4, 1, mask, mask, mask]]
