"""The stages of the small FastComposer on a world of five drawn pictures, so that they need no font."""

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from x2i.emoji.elite import subject_latents
from x2i.emoji.fastcomposer import composer_stage, objects_stage, scenes, views
from x2i.emoji.fastcomposer.attention import SeenAttention, misplaced, watch
from x2i.emoji.recipe import publish, text, unet
from x2i.emoji.world import english, pairs, vocabulary
from x2i.emoji.world.subject_views import normalised
from x2i.models.context_attention import cross_attention_layers

from tests.emoji.five_pictures import EMOJI, few_names, five_pictures, forget, save_untrained
from tests.numerics import assert_close

STAGES = {"fastcomposer_objects": objects_stage, "fastcomposer": composer_stage}
__all__ = ["few_names"]


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of untrained frozen networks."""
    path = tmp_path_factory.mktemp("emoji")
    save_untrained(path)
    return path


@pytest.fixture(autouse=True)
def world(monkeypatch):
    pictures = five_pictures()
    for module in (views, scenes, subject_latents):
        monkeypatch.setattr(module, "wide_pictures", lambda: pictures)
    monkeypatch.setattr(objects_stage, "BATCH", 4)
    for name in ("SUBJECTS", "SINGLE"):
        monkeypatch.setattr(composer_stage, name, 2)
    for name in ("PLAIN", "KNOWN", "EMPTY"):
        monkeypatch.setattr(composer_stage, name, 1)
    forget()
    yield
    forget()


def state(path):
    return torch.load(path, weights_only=True)


def test_the_stages_stop_and_go_on_and_are_published(folder, monkeypatch):
    for name, stage in STAGES.items():
        stage.train(folder, minutes=1e6, steps=1)
        before = state(folder / f"{name}.pt")
        stage.train(folder, minutes=1e6, steps=2)
        after = state(folder / f"{name}.pt")
        assert (before["steps"], after["steps"]) == (1, 2)
        moved = {key for key, value in before["module"].items() if not torch.equal(value, after["module"][key])}
        still = [key for key in moved if key.startswith(tuple(f"unet.{part}" for part in composer_stage.FROZEN))]
        assert len(moved) > 20 and not still, name
    monkeypatch.setattr(publish, "CHANGED", folder / "published" / "changed.safetensors")
    publish.publish_fastcomposer(folder, 0)
    published = load_file(folder / "published" / "changed.safetensors")
    assert {key.split(".")[0] for key in published} == {"image_encoder", "postfuse_module", "unet"}
    weight = composer_stage.trained(folder).postfuse_module.mlp1.fc1.weight.detach()
    assert_close(published["postfuse_module.mlp1.fc1.weight"].float(), weight.half().float(), "exact")


def test_every_trained_tensor_gets_a_gradient_and_no_other_does(folder):
    objects_stage.train(folder, minutes=1e6, steps=1)
    seen, made = composer_stage.World(folder), composer_stage.untrained(folder)
    composer_stage.loss(seen, made, watch(made.unet), 1).backward()
    names = [name for name, value in made.named_parameters() if value.grad is not None and value.grad.any()]
    assert names == [name for name, value in made.named_parameters() if value.requires_grad]
    parts = {"image_encoder.visual_projection", "image_encoder.vision_model.encoder.layers.15", "postfuse_module"}
    assert all(any(name.startswith(part) for name in names) for part in parts)
    assert not any(name.startswith("image_encoder.vision_model.encoder.layers.14") for name in names)


@torch.no_grad()
def test_objects_from_kept_states_are_those_of_the_whole_encoder(folder):
    model = views.image_encoder(folder).eval()
    keys = [(0, 0, 0), (4, 7, 1)]
    pixels = normalised([views.reference(*key) for key in keys])
    states = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[-3]
    found = views.objects(model, states)
    assert_close(found, model(pixel_values=pixels).image_embeds, "elite-stage")
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("prompt", "marked"),
    [
        ("a toy <|image|> and a toy <|image|> on a blue background", {"toy": [0, 1]}),
        ("the frog <|image|> with a red apple<|image|> on white", {"frog": [0], "apple": [1]}),
        ("a frog and a toy on black", {}),
    ],
)
def test_the_last_token_of_each_noun_carries_its_object(prompt, marked):
    ids, index = scenes.encode_marked(["", prompt])
    words = english.tokenizer()
    assert_close(ids[1], english.encode([prompt.replace(pairs.MARKER, "")])[0], "exact")
    assert (index[0] == -1).all() and (index >= 0).sum() == sum(map(len, marked.values()))
    for noun, numbers in marked.items():
        last = words.encode(noun, add_special_tokens=False).ids[-1]
        assert index[1][ids[1] == last].tolist() == numbers


@pytest.mark.parametrize("count", [1, 2])
def test_scenes_show_each_subject_where_its_mask_is(count):
    rng = np.random.default_rng(4)
    for _ in range(20):
        scene = scenes.draw_scene(rng, count)
        drawn, masks = scene.drawn(), scene.masks()
        assert len(scene.subjects) == len(masks) == scene.caption.count(pairs.MARKER) == count
        ground = np.asarray(vocabulary.backgrounds()[scene.ground].rgb)
        assert np.abs(drawn.astype(int) - ground)[sum(masks) == 0].max() <= 128  # less than half of a subject
        assert all((drawn != ground).any(-1)[mask == 1].mean() > 0.9 for mask in masks)
        if count == 2:
            assert not masks[0][:, 32:].any() and not masks[1][:, :32].any()


def test_a_named_subject_is_the_picture_of_its_name(monkeypatch):
    monkeypatch.setattr(scenes, "NAMED_SHARE", 1.0)
    names = {entry["emoji"]: entry["names"]["English"] for entry in vocabulary.vocabulary_table()["pictures"]}
    for number in range(20):
        scene = scenes.draw_scene(np.random.default_rng(number), 1)
        (subject, change, _) = scene.subjects[0]
        assert names[EMOJI[subject]] in scene.caption and change == 0


@torch.no_grad()
def test_watching_attention_changes_nothing(folder):
    denoiser = unet.build()
    given = torch.randn(2, 4, 16, 16), torch.tensor([10, 900]), torch.randn(2, 7, text.WIDTH)
    for module in cross_attention_layers(denoiser).values():
        module.set_processor(AttnProcessor())
    before = denoiser(*given).sample
    watched = watch(denoiser)
    assert_close(denoiser(*given).sample, before, "elite-stage")
    for layer in watched.values():
        assert_close(layer.seen.sum(-1), torch.ones(layer.seen.shape[:-1]), "attention-share")


def test_misplaced_attention():
    masks = torch.zeros(1, 2, 64, 64)
    masks[:, 0, :, :32], masks[:, 1, :, 32:] = 1, 1
    index = torch.tensor([[-1, 0, -1, 1]])
    layer = SeenAttention()
    for first, expected in ((masks[:, 0], -1.0), (masks[:, 1], 1.0), (torch.full((1, 64, 64), 0.5), 0.0)):
        columns = first[:, ::16, ::16].reshape(1, 1, 16)
        layer.seen = torch.stack([torch.zeros_like(columns), columns, torch.zeros_like(columns), 1 - columns], -1)
        found = misplaced({"layer": layer}, index, masks)
        assert_close(found.numpy(), np.float32(expected), "attention-share")
