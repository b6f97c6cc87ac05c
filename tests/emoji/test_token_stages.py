"""The stages of the small systems that draw token by token."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from x2i.emoji.tokens import (
    caption_judge,
    caption_words,
    ddcap_stage,
    muse_stage,
    tokenizer_stage,
    vq_diffusion_stage,
    written_layouts,
)
from x2i.emoji.tokens.vq_diffusion_stage import schedule_logarithms
from x2i.emoji.world import vocabulary
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import Verdict

from tests.emoji.five_pictures import few_names
from tests.goldens import golden_arrays
from tests.numerics import assert_close

STAGES = {
    "tokens": tokenizer_stage,
    "muse": muse_stage,
    "vq_diffusion": vq_diffusion_stage,
    "ddcap": ddcap_stage,
}
__all__ = ["few_names"]


def state(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of every stage behind two steps, the second of them by another call."""
    path = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            patch.setattr(stage, "BATCH", 2)
            patch.setattr(stage, "low_precision", nullcontext, raising=False)
            stage.train(path, minutes=1e6, steps=1)
            before = state(path / f"{name}.pt")["module"]
            stage.train(path, minutes=1e6, steps=2)
            after = state(path / f"{name}.pt")
            assert after["steps"] == 2
            assert sum(not torch.equal(value, after["module"][key]) for key, value in before.items()) > 20, name
    return path


def test_a_token_is_its_squares_mean_colour():
    white, scene = np.full((64, 64, 3), 255, np.uint8), vocabulary.scene("banana", "blue")
    found = tokenizer_stage.tokens([white, scene])
    assert (found[0] == tokenizer_stage.CODES - 1).all()
    means = scene.reshape(8, 8, 8, 8, 3).mean((1, 3)).reshape(64, 3) / 127.5 - 1
    nearest = torch.cdist(torch.from_numpy(means).float(), tokenizer_stage.codes()).argmin(1)
    assert torch.equal(found[1], nearest)


def test_every_scene_has_its_own_tokens():
    scenes = tokenizer_stage.scene_tokens().flatten(0, 1)
    assert len(scenes.unique(dim=0)) == len(scenes) == 8 * len(vocabulary.picture_keys())


def test_like_colours_begin_alike():
    torch.manual_seed(0)
    vectors = tokenizer_stage.alike(64)
    products = vectors @ vectors.T
    assert (products.argmax(1) == torch.arange(tokenizer_stage.CODES)).float().mean() > 0.5
    assert (products[0, 1] > products[0, 7]) and (products[0, 64] > products[0, 448])


def test_the_first_convolution_never_sees_a_neighbour(folder):
    weight = tokenizer_stage.trained(folder).encoder.conv_in.weight.detach().clone()
    assert weight[..., 1, 1].abs().min() > 0
    weight[..., 1, 1] = 0
    assert not weight.any()


@torch.no_grad()
def test_both_layouts_are_one_network_over_two_ranges(folder):
    model = tokenizer_stage.trained(folder)
    pixels = torch.rand(2, 3, 64, 48)
    latents = model.encode(2 * pixels - 1).latents
    drawn = model.decoder(model.post_quant_conv(latents))
    model.load_state_dict(written_layouts.from_zero_to_one(model.state_dict()))
    assert_close(model.encode(pixels).latents, latents, "folded-range")
    assert_close(2 * model.decoder(model.post_quant_conv(latents)) - 1, drawn, "folded-range")
    back = written_layouts.from_minus_one_to_one(model.state_dict())
    for key, value in tokenizer_stage.trained(folder).state_dict().items():
        assert_close(back[key], value, "elite-stage")


def test_masks_are_at_least_one_and_leave_the_rest():
    tokens = torch.randint(tokenizer_stage.CODES, (200, 64))
    seen = muse_stage.masked(tokens, torch.Generator().manual_seed(0))
    hidden = seen == muse_stage.MASK
    assert hidden.any(1).all() and torch.equal(seen[~hidden], tokens[~hidden])
    assert 0.6 < hidden.float().mean() < 0.68  # 2 / pi


def test_the_schedule_is_the_authors():
    arrays = golden_arrays("vq_diffusion/functions.npz")
    names = {"at": "at", "bt": "bt", "ct": "ct", "att": "cumprod_at", "btt": "cumprod_bt", "ctt": "cumprod_ct"}
    compared = 0
    for key in arrays:
        if key.startswith("schedule_T"):
            _, steps, classes, name = key.split("_")
            found = schedule_logarithms(int(steps[1:]), int(classes[1:]))[f"log_{names[name]}"].double().exp()
            assert_close(found.float(), arrays[key].astype(np.float32), "context")
            compared += 1
    assert compared


def test_a_half_revealed_caption_is_one_of_its_sampling():
    ids, lengths = map(torch.from_numpy, caption_words.encode(caption_words.captions()))
    mask = caption_words.words().get_vocab_size()
    seen, timestep = ddcap_stage.revealed(ids, lengths, mask, torch.Generator().manual_seed(1))
    shown = seen != mask
    assert torch.equal(seen[shown], ids[shown]) and not shown[ids == mask].any()
    count = shown.sum(1)
    assert (count < lengths).all() and len(count.unique()) > 4
    assert (timestep[count == 0] == 19).all()
    assert torch.equal(timestep[count > 0], ((lengths - count) * 20 // lengths)[count > 0])


def test_captions_are_whole_words_and_come_back():
    words = caption_words.words()
    ids, lengths = caption_words.encode(caption_words.captions())
    for row, length, written in zip(ids, lengths, caption_words.captions(), strict=True):
        assert words.decode(row[:length].tolist(), skip_special_tokens=False) == written + caption_words.END
        assert length == len(written.split()) + 1 <= caption_words.POSITIONS


def test_a_held_out_scene_is_never_drawn(monkeypatch, folder):
    monkeypatch.setattr(ddcap_stage, "DRAWN_SHARE", 0)
    scenes = ddcap_stage.Scenes(folder)
    grounds = vocabulary.backgrounds()
    held = {
        f"{key} on a {grounds[caption_judge.held_out(number)].key} background"
        for number, key in enumerate(vocabulary.picture_keys())
    }
    rng = np.random.default_rng(5)
    drawn = {scenes.draw(rng)[1] for _ in range(300)}
    assert len(held) == len(vocabulary.picture_keys()) and len(drawn) == 7 * len(held)
    assert not {text.removeprefix("an ").removeprefix("a ") for text in drawn} & held


@pytest.mark.parametrize(
    ("text", "key", "ground"),
    [
        ("a red apple on a blue background", "red apple", "blue"),
        ("A red apple on a red background", "red apple", "red"),
        ("carrot on a white background", "carrot", "white"),
        ("a red on a frog background", "", ""),
        ("a frog", "", ""),
        ("", "", ""),
    ],
)
def test_a_caption_names_a_picture_and_the_colour_behind_it(text, key, ground):
    assert caption_judge.judge_caption(text) == Verdict(key, ground)


def test_every_canonical_caption_names_its_scene():
    for entry in vocabulary.vocabulary_table()["pictures"]:
        for ground in vocabulary.backgrounds():
            found = caption_judge.judge_caption(caption("English", entry["key"], ground.key))
            assert found == Verdict(entry["key"], ground.key)
