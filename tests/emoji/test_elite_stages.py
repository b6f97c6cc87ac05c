"""The stages of the ELITE relatives on a world of five drawn pictures, so that they need no font."""

import numpy as np
import pytest
import torch
from x2i.emoji.elite import frozen as elite_frozen
from x2i.emoji.elite import global_stage, local_stage, shown_subjects, subject_latents
from x2i.emoji.recipe import clip, publish, text, unet
from x2i.emoji.world import english
from x2i.models import context_attention
from x2i.models.subjects.elite import GlobalMapper, LocalMapper, read_elite_mapper

from tests.emoji.five_pictures import EMOJI, few_names, five_pictures, forget, save_untrained
from tests.numerics import assert_close

__all__ = ["few_names"]


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of untrained frozen networks, and the world's latents."""
    path = tmp_path_factory.mktemp("emoji")
    save_untrained(path)
    return path


@pytest.fixture(autouse=True)
def world(monkeypatch):
    pictures = five_pictures()
    for module in (clip, shown_subjects, subject_latents):
        monkeypatch.setattr(module, "wide_pictures", lambda: pictures)
    monkeypatch.setattr(clip.captions, "cldr_names", lambda: dict.fromkeys(EMOJI, "thing"))
    monkeypatch.setattr(clip.captions, "cldr_keywords", lambda: {"🍎": ("fruit",)})
    monkeypatch.setattr(clip, "BATCH", 4)
    monkeypatch.setattr(global_stage, "SUBJECTS", 2)
    for name in ("EMPTY", "PLAIN"):
        monkeypatch.setattr(global_stage, name, 1)
    monkeypatch.setattr(local_stage, "BATCH", 2)
    forget()
    yield
    forget()


def state(path):
    return torch.load(path, weights_only=True)


def test_the_stages_stop_and_go_on_and_are_published(folder, monkeypatch):
    for name, stage in {"clip": clip, "elite_global": global_stage, "elite_local": local_stage}.items():
        (folder / f"{name}.pt").unlink(missing_ok=True)
        stage.train(folder, minutes=1e6, steps=1)
        before = state(folder / f"{name}.pt")
        stage.train(folder, minutes=1e6, steps=2)
        after = state(folder / f"{name}.pt")
        assert (before["steps"], after["steps"]) == (1, 2)
        moved = [key for key, value in before["module"].items() if not torch.equal(value, after["module"][key])]
        assert len(moved) > len(before["module"]) / 3, name
    monkeypatch.setattr(publish, "ELITE_TARGET", folder / "published")
    publish.publish_elite(folder, 0)
    for kind, made in {"global": global_stage.trained(folder), "local": local_stage.trained(folder)}.items():
        mapper, weights = read_elite_mapper(folder / "published" / f"{kind}_mapper.pt", kind, unet.build())
        assert set(weights) == set(made.names) and mapper.hidden == elite_frozen.HIDDEN
        first, wanted = (each.mapping_0[0].weight.detach() for each in (mapper, made.mapper))
        assert_close(first, wanted.half().float(), "exact")


@pytest.mark.parametrize("kind", [GlobalMapper, LocalMapper])
def test_keys_and_values_begin_as_the_denoisers_own(kind):
    denoiser = unet.build()
    made = elite_frozen.checkpoint(kind, denoiser)
    context = torch.randn(1, 3, text.WIDTH)
    keys, values = elite_frozen.keys_and_values(made, context)
    for path, layer in context_attention.cross_attention_layers(denoiser).items():
        assert torch.equal(keys[path], layer.to_k(context)) and torch.equal(values[path], layer.to_v(context))


def test_every_trained_tensor_of_the_local_stage_gets_a_gradient(folder):
    frozen = elite_frozen.Frozen.read(folder)
    words = elite_frozen.checkpoint(GlobalMapper, frozen.denoiser).requires_grad_(False)
    made = elite_frozen.checkpoint(LocalMapper, frozen.denoiser)
    targets = subject_latents.subject_latents(folder)
    assert targets.shape == (5, 4, 8, 4, 16, 16) and targets.float().std() > 0.5
    local_stage.loss(frozen, words, made, targets, 1).backward()
    assert all(value.grad is not None and value.grad.any() for value in made.parameters())


def test_the_global_stage_trains_every_word(folder, monkeypatch):
    frozen = elite_frozen.Frozen.read(folder)
    made = elite_frozen.checkpoint(GlobalMapper, frozen.denoiser)
    targets, (known, _) = subject_latents.subject_latents(folder), unet.cached_latents(folder)
    for share, words in ((0.0, {0}), (1.0, set(range(5)))):
        monkeypatch.setattr(global_stage, "ALL_WORDS_SHARE", share)
        made.zero_grad()
        global_stage.loss(frozen, made, targets, known, 1).backward()
        moved = [name for name, value in made.mapper.named_parameters() if value.grad is not None and value.grad.any()]
        assert {int(name.split(".")[0].rsplit("_", 1)[1]) for name in moved} == words


def test_attention_that_lies_on_the_mask_is_not_misplaced(folder):
    frozen = elite_frozen.Frozen.read(folder)
    masks = torch.zeros(1, 64, 64)
    masks[:, 16:48, :32] = 1
    keys = {}
    for path, layer in context_attention.cross_attention_layers(frozen.denoiser).items():
        side = {48: 16, 96: 8, 144: 4}[layer.to_q.out_features]
        inside = masks[:, :: 64 // side, :: 64 // side].reshape(1, -1, 1)
        frozen.queries[path] = (inside * 2 - 1).expand(-1, -1, layer.to_q.out_features)
        keys[path] = torch.stack(
            [torch.zeros(1, layer.to_q.out_features), torch.full((1, 1), 9.0).expand(1, layer.to_q.out_features)], 1
        )
    index = torch.tensor([1])
    assert global_stage.misplaced(frozen, keys, index, masks) < 1e-6
    assert global_stage.misplaced(frozen, keys, index, 1 - masks) > 0.9


def test_a_subject_shown_where_it_is_drawn_matches_place_by_place():
    patches, inside = shown_subjects.matches((2, 1, 0), 8)
    assert np.array_equal(patches, np.arange(64)) and 0 < inside.sum() < 64
    fine, _ = shown_subjects.matches((2, 1, 0), 16)
    assert np.array_equal(fine.reshape(16, 16)[::2, ::2].reshape(-1), np.arange(64))


def test_places_match_in_a_view_that_is_moved_and_scaled():
    seen = shown_subjects.shown((2, 1, 1))
    patches, _ = shown_subjects.matches((2, 1, 1), 16)
    middle = patches.reshape(16, 16)[7:9, 7:9]
    row, column = (edge + seen.size / 2 for edge in (seen.top, seen.left))
    assert (np.abs(middle // 8 * 8 + 4 - row) < 8).all() and (np.abs(middle % 8 * 8 + 4 - column) < 8).all()


def test_attention_to_the_patch_of_the_same_place_is_not_unmatched(folder):
    frozen = elite_frozen.Frozen.read(folder)
    view = (0, 0, 0)
    keys = {}
    for path, layer in context_attention.cross_attention_layers(frozen.denoiser).items():
        width = layer.to_q.out_features
        side, each = {48: 16, 96: 8, 144: 4}[width], width // layer.heads
        spots = torch.randn(1, 64, each, generator=torch.Generator().manual_seed(1))
        spots = 9 * torch.nn.functional.normalize(spots, dim=-1)
        keys[path] = spots.repeat(1, 1, layer.heads)
        patches = torch.from_numpy(shown_subjects.matches(view, side)[0])
        frozen.queries[path] = keys[path][:, patches]
    assert local_stage.unmatched(frozen, keys, [view]) < 0.2
    assert local_stage.unmatched(frozen, {path: key.flip(1) for path, key in keys.items()}, [view]) > 4


def test_a_view_masks_what_it_shows_and_its_grid_is_the_masks_corners():
    for number in (0, 1):
        seen = shown_subjects.shown((1, 0, number))
        mask = (seen.masked != 0).any(-1)
        assert np.array_equal(seen.masked, seen.picture * mask[..., None])
        assert np.array_equal(seen.grid, mask[::8, ::8].reshape(-1)) and 0 < seen.grid.sum() < 64


def test_captions_hold_the_placeholder_as_one_token():
    rng = np.random.default_rng(6)
    captions = [shown_subjects.draw_caption(rng, ground) for ground in range(8) for _ in range(6)]
    ids = english.encode([*captions, ""])
    index = shown_subjects.word_index(ids)
    assert index[-1] == ids.shape[1] and index[:-1].max() < ids.shape[1]
    assert len({int(row[at]) for row, at in zip(ids, index[:-1], strict=False)}) == 1
    assert any("blue" in caption for caption in captions)


def test_thumbnails_follow_the_encoders_order_of_patches():
    pixels = torch.randn(1, 3, clip.IMAGE, clip.IMAGE)
    shown = clip.thumbnails(pixels).view(1, 8, 8, 3, clip.THUMBNAIL, clip.THUMBNAIL)
    assert_close(shown[0, 2, 5, 1, 3, 0], pixels[0, 1, 22:24, 40:42].mean(), "pixels")
