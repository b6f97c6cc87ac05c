"""What would hardly show in Frido's pictures, done wrong on purpose: the recorded runs tell each."""

import numpy as np
import pytest
import torch
from x2i.models.frido.spade_blocks import Spade, WideAttention
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.output import to_uint8
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.sessions.backends import open_session

from tests.export.cascades.frido_cases import case_names, frido_bundle, frido_case, frido_of_task, task_names
from tests.goldens import golden, golden_arrays
from tests.numerics import TOLERANCES

TASKS = pytest.mark.parametrize("task", task_names() or ["none"])
RUN, SAMPLER, NET = (TOLERANCES[name].relative for name in ("frido-run", "frido-sampler", "frido-net"))


def case_with(**wanted):
    """The first recorded run with these settings; a function is asked."""
    for name in case_names():
        case = frido_case(name)
        values = {"task": case.task, **case.settings}
        if all(want(values[key]) if callable(want) else values[key] == want for key, want in wanted.items()):
            return case
    pytest.skip("no such run of Frido is here")


class Altered:
    """A session whose outputs, or inputs, are other ones."""

    def __init__(self, session, change):
        self._session, self._change = session, change

    def __getattr__(self, name):
        return getattr(self._session, name)

    def __call__(self, **arrays):
        return self._change(self._session, arrays)


def last_latents(case, changes=None, **options):
    """The fine level of a run whose graphs may be altered."""
    bundle = open_bundle(frido_bundle(case.task))

    def opened(graph):
        session = open_session("cpu", bundle.graph_file(graph))
        return Altered(session, changes[graph]) if changes and graph in changes else session

    given = case.options(0) | options
    return Pipeline(bundle, opened)(given.pop("prompt", None), **given).latents


def recorded(case):
    return case.level(1, case.arrays["final_latents"])[:1]


def is_off(drawn, expected, bound):
    return relative_l2(drawn, expected) > 2 * bound


def test_nothing_wrong_is_near():
    case = case_with(eta=1.0)
    assert not is_off(last_latents(case), recorded(case), RUN)


def test_without_the_mean_between_the_levels():
    case = case_with(eta=1.0)
    drawn = last_latents(case, {"pooled": lambda session, arrays: {"pooled": arrays["drawn"]}})
    assert is_off(drawn, recorded(case), RUN)


def test_a_layout_steered_away_from_the_encoder_s_zeros():
    case = case_with(task=lambda task: "layout" in task, guidance=lambda scale: scale != 1)

    def encoded(session, arrays):
        away = arrays["unconditional"]
        tokens = np.where(away[:, None], 0, arrays["layout_tokens"])
        return session(layout_tokens=tokens, unconditional=np.zeros_like(away))

    assert is_off(last_latents(case, {"layout_encoder": encoded}), recorded(case), RUN)


def test_the_noise_of_the_wrong_channels():
    case = case_with(eta=1.0)
    noise = case.noise
    fine = case.arrays["initial_noise"].shape[1] - case.coarse
    noise["step_noise"] = case.arrays["stage1_noise"][:, :, :fine]
    wrong = {name: draws[:, :1] for name, draws in noise.items()}
    assert is_off(last_latents(case, noise=wrong), recorded(case), RUN)


def test_as_many_steps_as_were_asked():
    """Not those that the stride makes."""
    case = case_with(steps=lambda steps: 1000 % steps, eta=1.0)
    asked = case.settings["steps"]
    assert case.settings["actual_steps"] > asked
    steps = next(count for count in range(asked, 0, -1) if 1000 % count == 0)
    wrong = {
        name: draws[: steps if name.endswith("step_noise") else 1] for name, draws in case.options(0)["noise"].items()
    }
    assert is_off(last_latents(case, noise=wrong, steps=steps), recorded(case), RUN)


@pytest.mark.parametrize("sampler", ["ddim", "plms"])
def test_an_end_without_noise(sampler, monkeypatch):
    """The last step leads to the schedule's first level; the difference is small, and above the sampler's tolerance."""
    case = case_with(sampler=sampler)
    right, own = last_latents(case), Schedule.alphas_cumprod

    def ending_at_one(schedule):
        alphas = own(schedule)
        alphas[0] = 1
        return alphas

    monkeypatch.setattr(Schedule, "alphas_cumprod", ending_at_one)
    assert is_off(last_latents(case), right, SAMPLER)


def test_rounding_to_bytes():
    for name in case_names():
        case = frido_case(name)
        image = case.arrays["image_float"].clip(-1, 1)
        assert (to_uint8(image, "truncate") == case.arrays["image_u8"]).all()
        assert (to_uint8(image, "round") != case.arrays["image_u8"]).mean() > 0.1


@TASKS
def test_the_norms_of_the_coarse_level_alone_are_plain(task):
    """A wrong scale or shift shows in the fine level, and there alone."""
    assert off_with(task, lambda module: isinstance(module, Spade), silence) == [False, True]


@TASKS
def test_several_heads(task):
    assert off_with(task, lambda module: isinstance(module, WideAttention), split) == [True, True]


@TASKS
def test_every_level_hears_its_timestep_and_its_stage(task):
    frido, nets = frido_of_task(task), arrays_of(task)
    for level in (0, 1):
        right = noise_of(frido.unet, level, nets, 400)
        assert is_off(noise_of(frido.unet, level, nets, 1), right, NET)
        stages = frido.unet.stage_emb.weight.data
        frido.unet.stage_emb.weight.data = stages.flip(0)
        swapped = noise_of(frido.unet, level, nets, 400)
        frido.unet.stage_emb.weight.data = stages
        assert is_off(swapped, right, NET)


@TASKS
def test_the_decoder_s_order_and_its_codes(task):
    decoder, nets = frido_of_task(task).decoder, arrays_of(task)
    coarse = decoder.settings.widths[0]
    levels = torch.from_numpy(nets["z"][:, :coarse]), torch.from_numpy(nets["z"][:, coarse:])
    codes = decoder.codes(levels)
    assert (torch.stack(codes).numpy() == nets["codes"]).mean() >= 0.999
    vectors = [decoder.codebook(number)[code].movedim(3, 1) for number, code in enumerate(codes)]
    unquantised = [level / decoder.scale_factor[number] for number, level in enumerate(levels)]

    def picture(parts):
        return decoder.decoder(decoder.post_quant_conv(torch.cat(parts, dim=1))).numpy()

    assert not is_off(picture(vectors[::-1]), nets["decoded"], NET)
    assert is_off(picture(vectors), nets["decoded"], NET)
    assert is_off(picture(unquantised[::-1]), nets["decoded"], NET)


@TASKS
def test_the_trained_copy_of_the_weights(task):
    """It is there under names of its own, fits, and is not what was drawn with."""
    frido, nets = frido_of_task(task), arrays_of(task)
    path = golden(f"frido/{task}/checkpoints/model.ckpt")
    tensors = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    raw = {key: tensors[f"model.diffusion_model.{key}"].float() for key in frido.unet.state_dict()}
    other = type(frido.unet)(frido.unet.settings).eval().requires_grad_(False)
    other.load_state_dict(raw)
    assert is_off(noise_of(other, 0, nets, 400), nets["stage0_t400"], NET)


def arrays_of(task):
    return golden_arrays(f"frido/{task}/nets.npz")


def noise_of(unet, level, nets, time):
    coarse, x = unet.settings.levels[0], torch.from_numpy(nets["x"])
    own, finished = (x[:, coarse:], x[:, :coarse]) if level else (x[:, :coarse], None)
    with torch.no_grad():
        maps = None if finished is None else unet.maps(level, finished)
        pairs = unet.pairs(torch.from_numpy(nets["context"]))
        return unet(level, own, torch.full((len(x),), float(time)), pairs, maps).numpy()


def off_with(task, chosen, change):
    """Whether each level is off when the chosen modules are changed."""
    frido, nets = frido_of_task(task), arrays_of(task)
    modules = [module for module in frido.unet.modules() if chosen(module)]
    undo = [change(module) for module in modules]
    found = [is_off(noise_of(frido.unet, level, nets, 400), nets[f"stage{level}_t400"], NET) for level in (0, 1)]
    for each in undo:
        each()
    return found


def silence(norm):
    kept = norm.forward
    norm.forward = lambda x, maps: kept(x, None)
    return lambda: delattr(norm, "forward")


def split(attention):
    """Two heads in place of one."""

    def halves(x, pair):
        parts = (attention.to_q(x), *pair)
        query, key, value = (part.unflatten(2, (2, -1)).transpose(1, 2) for part in parts)
        joined = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return attention.to_out(joined.transpose(1, 2).flatten(2))

    attention.forward = halves
    return lambda: delattr(attention, "forward")
