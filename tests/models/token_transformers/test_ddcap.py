"""DDCap's networks against the authors', and that the comparison sees what a run would not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from x2i.models.token_transformers.ddcap import (
    CaptionDenoiser,
    PictureCondition,
    PictureProjection,
    time_embedding,
)

from tests.models.token_transformers.ddcap_goldens import TAGS, model, networks
from tests.numerics import assert_close

pytestmark = pytest.mark.parametrize("tag", TAGS)


@torch.no_grad()
def picture(tag: str) -> tuple[np.ndarray, ...]:
    """Patches, projected class token, condition and length of every picture."""
    net = model(tag)
    pixels = torch.from_numpy(networks(tag)["pixels"])
    conditions = [PictureCondition(net)(one[None]) for one in pixels]
    embed, lengths = torch.stack([context[1] for context, _ in conditions]), torch.cat([each for _, each in conditions])
    return tuple(each.numpy() for each in (*net.clip_model["visual"](pixels), embed, lengths))


def test_pictures(tag: str) -> None:
    expected = networks(tag)
    for got, name in zip(picture(tag), ("patch_tokens", "cls", "embed", "len_logits"), strict=True):
        assert_close(got, expected[name], "ddcap")


@torch.no_grad()
def logits(
    tag: str, change: Callable[[CaptionDenoiser], object] = lambda denoiser: None, context: torch.Tensor | None = None
) -> np.ndarray:
    """What one call gives, after a change of the network; of the pictures, unless there is another `context` [P, D]."""
    net, arrays = model(tag), networks(tag)
    tokens, times = (torch.from_numpy(arrays[f"gpt_{name}"]) for name in ("tokens", "t"))
    pictures = torch.from_numpy(arrays["embed"][: len(tokens)])
    denoiser = CaptionDenoiser(net)
    # A copy: changes are made in place, and the model is every test's.
    denoiser.mask_vector = nn.Parameter(net.bos_embedding.clone(), requires_grad=False)
    change(denoiser)
    seen = pictures if context is None else context.expand(len(tokens), -1, -1)
    return denoiser(tokens, times, *PictureProjection(net)(seen)).numpy()


def test_denoiser(tag: str) -> None:
    """From tokens alone: their vectors and the mask over them are made inside."""
    arrays = networks(tag)
    assert_close(logits(tag), arrays["gpt_logits"], "ddcap")
    assert_close(logits(tag, context=model(tag).pad_embedding), arrays["gpt_logits_image_free"], "ddcap")


def test_timesteps(tag: str) -> None:
    expected = networks(tag)["time_embedding"]
    assert_close(time_embedding(*expected.shape).numpy(), expected, "ddcap-times")


def causal(denoiser: CaptionDenoiser) -> None:
    """Adds GPT-2's own mask, which the authors leave aside."""
    seen = ~torch.ones_like(denoiser.others).tril()
    real = F.scaled_dot_product_attention

    def masked(q, k, v, attn_mask=None):
        return real(q, k, v, attn_mask=None if attn_mask is None else attn_mask.masked_fill(seen, -1e4))

    F.scaled_dot_product_attention = masked


def exact_gelu(denoiser: CaptionDenoiser) -> None:
    F.gelu = lambda x, approximate: torch.erf(x / 2**0.5).add(1) * x / 2


def twice_the_time(denoiser: CaptionDenoiser) -> None:
    """Divides the timestep by 10, as someone would for a model of ten steps."""
    times = time_embedding(2 * len(denoiser.norms), denoiser.sizes.width)[::2]
    denoiser.norms = torch.cat([block.norms(times) for block in denoiser.h], 1)


MISTAKES: dict[str, Callable[[CaptionDenoiser], object]] = {
    "the exact GELU": exact_gelu,
    "GPT-2's causal mask": causal,
    "a mask over a token's own column": lambda denoiser: denoiser.others.fill_(True),
    "no mask": lambda denoiser: denoiser.others.fill_(False),
    "scale and shift exchanged": lambda denoiser: setattr(denoiser, "norms", exchanged(denoiser.norms)),
    "no positions": lambda denoiser: denoiser.places.zero_(),
    "a mask token out of the vocabulary": lambda denoiser: denoiser.mask_vector.copy_(denoiser.wte.weight[-1]),
    "timesteps divided by another number": twice_the_time,
    "the next timestep": lambda denoiser: setattr(denoiser, "norms", denoiser.norms.roll(1, 0)),
}


def exchanged(norms: torch.Tensor) -> torch.Tensor:
    factor, summand = norms[:, 0::2], norms[:, 1::2]
    return torch.stack([1 + summand, factor - 1], 2).flatten(1, 2)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(tag: str, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gelu", "scaled_dot_product_attention"):
        monkeypatch.setattr(F, name, getattr(F, name))  # what a mistake puts there is taken away again
    with pytest.raises(AssertionError, match="largest error"):
        assert_close(logits(tag, MISTAKES[mistake]), networks(tag)["gpt_logits"], "ddcap")


def test_another_condition_of_no_picture_is_seen(tag: str) -> None:
    zeros = torch.zeros_like(model(tag).pad_embedding)
    with pytest.raises(AssertionError, match="largest error"):
        assert_close(logits(tag, context=zeros), networks(tag)["gpt_logits_image_free"], "ddcap")


@torch.no_grad()
def test_a_norm_over_the_patches_is_seen(tag: str) -> None:
    arrays, visual = networks(tag), model(tag).clip_model["visual"]
    patches, _ = visual(torch.from_numpy(arrays["pixels"]))
    with pytest.raises(AssertionError, match="largest error"):
        assert_close(visual.ln_post(patches).numpy(), arrays["patch_tokens"], "ddcap")
