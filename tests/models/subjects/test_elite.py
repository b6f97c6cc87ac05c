"""ELITE's mappers against the original classes."""

import numpy as np
import pytest
import torch
from x2i.models.clip.injected_text import InjectedText
from x2i.models.clip.vision import VisionLevels
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.subjects.elite import Elite, GlobalMapper, LocalMapper, read_elite

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close


def levels_of(name: str) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
    arrays = golden_arrays(f"elite/golden/{name}.npz")
    return arrays, [torch.from_numpy(arrays[f"emb_{level}"]) for level in range(5)]


def load(mapper, kind: str):
    tensors = torch.load(golden(f"elite/checkpoints/{kind}_mapper.pt"), weights_only=True)
    mapper.load_state_dict({key: value for key, value in tensors.items() if key.startswith("mapping_")})
    return mapper


def published() -> tuple[VisionLevels, Elite, InjectedText]:
    base = read_stable_diffusion(golden("elite/model"))
    files = ("model/image_encoder", "checkpoints/global_mapper.pt", "checkpoints/local_mapper.pt")
    elite = read_elite(*(golden(f"elite/{file}") for file in files), base.unet)
    return VisionLevels(elite.vision), elite, InjectedText(base.text_encoder)


@torch.no_grad()
def test_global_words():
    arrays, levels = levels_of("mapper_global")
    words = load(GlobalMapper(32, 64), "global")(levels)
    assert_close(words.numpy(), arrays["out"], "elite-stage")


@torch.no_grad()
def test_local_patches():
    arrays, levels = levels_of("mapper_local")
    mapper = load(LocalMapper(32, 64), "local")
    mask = torch.from_numpy(arrays["mask"])[..., 0]
    assert_close(mapper(levels, torch.ones_like(mask)).numpy(), arrays["out"], "elite-stage")
    assert_close(mapper(levels, mask).numpy(), arrays["out_masked"], "elite-stage")


@pytest.mark.parametrize("patches", [1, 9, 16])
@torch.no_grad()
def test_every_level_class_token_and_patch_reaches_the_output(patches):
    torch.manual_seed(0)
    whole, parts = GlobalMapper(6, 5, hidden=7, levels=3), LocalMapper(6, 5, hidden=7, levels=3)
    levels, mask = list(torch.randn(3, 2, 1 + patches, 6)), torch.ones(2, patches)
    mask[1, patches // 2] = 0
    words, features = whole(levels), parts(levels, mask)
    assert words.shape == (2, 3, 5) and features.shape == (2, patches, 5)
    assert not features[1, patches // 2].any()
    for level in range(3):
        for token in range(1 + patches):
            changed = [each.clone() for each in levels]
            changed[level][0, token] += 1
            moved = (whole(changed) - words).abs().amax(-1) > 1e-7
            assert moved[0].tolist() == [number == level for number in range(3)] and not moved[1].any()
            moved = (parts(changed, mask) - features).abs().amax(-1) > 1e-7
            assert moved[0].all() if token == 0 else moved[0].nonzero().tolist() == [[token - 1]]
            assert not moved[1].any()


def test_another_number_of_levels():
    with pytest.raises(ValueError, match="zip"):
        GlobalMapper(6, 5, hidden=7)([torch.zeros(1, 3, 6)] * 4)


@pytest.mark.parametrize("name", ["validate_local", "validate_local_batch2"])
@torch.no_grad()
def test_from_pixels_to_both_contexts(name):
    arrays = {key: torch.from_numpy(value) for key, value in golden_arrays(f"elite/golden/{name}.npz").items()}
    levels, elite, text = published()
    mask = arrays["pixel_values_seg"][:, 0, ::8, ::8].flatten(1)
    patches = elite.local_mapper(levels(arrays["pixel_values_obj"]), mask)
    assert_close(patches.numpy(), arrays["local_embedding"].numpy(), "elite-stage")
    words = elite.global_mapper(levels(arrays["pixel_values_clip"]))
    context = text(arrays["input_ids"], words[:, :1], arrays["index"])
    assert_close(context.numpy(), arrays["encoder_hidden_states"].numpy(), "elite-stage")


@torch.no_grad()
def test_all_words_at_once():
    arrays = {
        key: torch.from_numpy(value)
        for key, value in golden_arrays("elite/golden/validate_global_tokenfull.npz").items()
        if value.ndim
    }
    pixels = torch.from_numpy(golden_arrays("elite/golden/preprocess_mug.npz")["pixel_values_clip"])[None]
    levels, elite, text = published()
    context = text(arrays["input_ids"], elite.global_mapper(levels(pixels)), arrays["index"])
    assert_close(context.numpy(), arrays["encoder_hidden_states"].numpy(), "elite-stage")
