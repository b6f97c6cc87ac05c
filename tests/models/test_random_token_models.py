"""Random systems over tokens: of the published sizes, seeded, and alive from every input to the logits."""

from dataclasses import replace

import pytest
import torch
from x2i.models.context_attention import ContextProjection
from x2i.models.errors import CheckpointError
from x2i.models.random.token_models import TOKEN_SIZES, random_picture_tokens
from x2i.models.token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings

FFHQ = replace(TOKEN_SIZES["imagenet"].transformer, classes=1024, layers=20, class_rows=None)
PUBLISHED = {
    "coco": (TOKEN_SIZES["coco"].transformer, 389),
    "ithq": (TOKEN_SIZES["ithq"].transformer, 1359),
    "imagenet": (TOKEN_SIZES["imagenet"].transformer, 518),
    "ffhq": (FFHQ, 411),
}
"""Millions of weights of the transformer, from the table of VQ-Diffusion's SPEC, 1."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_size(name: str) -> None:
    settings, millions = PUBLISHED[name]
    assert round(weights(settings) / 1e6) == millions


def weights(settings: TokenTransformerSettings) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in TokenTransformer(settings).parameters())


def test_one_seed_one_model() -> None:
    first, again, other = (random_picture_tokens("tiny", seed).model.transformer.state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["tiny", "tiny-class", "tiny-nothing"])
def test_every_input_reaches_the_logits(variant: str) -> None:
    model = random_picture_tokens(variant).model
    transformer, settings = model.transformer, model.transformer.settings
    tokens, timestep = torch.zeros(1, settings.length, dtype=torch.int64), torch.tensor([3])
    given = {}
    if settings.class_rows is not None:
        given = {"class_id": torch.tensor([1])}
    elif settings.context_width is not None:
        context = torch.randn(1, 9, settings.context_width)
        given = {"context": ContextProjection(*transformer.context_weights())(context)}
    plain = transformer(tokens, timestep, **given)
    assert 0.1 < plain.std() < 10
    changed = [transformer(tokens + (torch.arange(settings.length) == 7), timestep, **given)]
    changed.append(transformer(tokens, timestep + 1, **given))
    if "class_id" in given:
        changed.append(transformer(tokens, timestep, class_id=given["class_id"] + 1))
    if "context" in given:
        changed.append(transformer(tokens, timestep, context=[each + 0.1 for each in given["context"]]))
    assert all((each - plain).abs().max() > 1e-3 for each in changed)


def test_another_variant_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"expected coco or ithq or .*, got 'sd15'"):
        random_picture_tokens("sd15")
