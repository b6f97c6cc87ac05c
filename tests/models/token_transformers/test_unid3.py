"""UniD3's transformer, from its authors' files, against their three networks; and that what is done wrong is seen."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from x2i.models.token_transformers.layers import AdaptiveNorm, SigmoidGelu, TabledNorm, table_norms
from x2i.models.token_transformers.unid3 import JointBlock, UniD3Transformer

from tests.goldens import golden_arrays
from tests.models.token_transformers import unid3_goldens as goldens
from tests.numerics import assert_close

Arrays = dict[str, np.ndarray]


def outputs(transformer: UniD3Transformer, arrays: Arrays, direction: str) -> Arrays:
    """What one of the authors' networks says at every timestep, by the goldens' names."""
    tokens, draws = torch.from_numpy(arrays["ids"]), goldens.DIRECTIONS[direction]
    said = [goldens.logits(transformer, tokens, int(t), draws) for t in arrays["t"]]
    image, text = (torch.stack(each).numpy() for each in zip(*said, strict=True))
    return {f"{direction}_logits_{name}": each for name, each in (("img", image), ("txt", text))}


def assert_theirs(transformer: UniD3Transformer, arrays: Arrays) -> None:
    made = {
        name: each for direction in goldens.DIRECTIONS for name, each in outputs(transformer, arrays, direction).items()
    }
    compared = [name for name in arrays if "_logits_" in name]
    assert compared
    for name in compared:
        assert_close(made[name], arrays[name], "unid3-logits")


@pytest.mark.parametrize("tabled", [False, True])
def test_logits_are_those_of_the_authors_networks(tabled: bool) -> None:
    transformer, arrays = goldens.read().transformer, golden_arrays("unid3/transformer.npz")
    if tabled:
        table_norms(transformer)
        assert not any(isinstance(module, AdaptiveNorm) for module in transformer.modules())
        assert any(isinstance(module, TabledNorm) for module in transformer.modules())
    assert_theirs(transformer, arrays)
    embedded = transformer.embedding(torch.from_numpy(arrays["ids"])).numpy()
    assert_close(embedded, arrays["embedding"], "content-embedding")


def test_directions_may_be_mixed_in_a_batch() -> None:
    transformer, arrays = goldens.network(), golden_arrays("unid3/transformer.npz")
    tokens, timestep = torch.from_numpy(arrays["ids"][:1]), int(arrays["t"][-1])
    count = len(goldens.DIRECTIONS)
    flags = torch.tensor(list(goldens.DIRECTIONS.values())).T
    with torch.no_grad():
        mixed = transformer(tokens.expand(count, -1), torch.full((count,), timestep), *flags)
    for row, draws in enumerate(goldens.DIRECTIONS.values()):
        for made, alone in zip(mixed, goldens.logits(transformer, tokens, timestep, draws), strict=True):
            assert_close(made[row].numpy(), alone[0].numpy(), "unid3-logits")


def without_alpha(transformer: UniD3Transformer) -> None:
    transformer.alpha = nn.Parameter(torch.ones(1))


def sigmoid_gelu(transformer: UniD3Transformer) -> None:
    for block in transformer.blocks:
        block.mlp[1] = SigmoidGelu()


def over_tokens(values: Tensor, *unused: object) -> Tensor:
    return (values - values.mean(dim=1, keepdim=True)) / (values.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def normalised_over_tokens(transformer: UniD3Transformer) -> None:
    for block in transformer.blocks:
        block.normalised = over_tokens


def normed_keys(transformer: UniD3Transformer) -> None:
    """Reads the other modality behind a norm, as the queries are."""
    for block in transformer.blocks:
        for attention in (block.image_attn, block.text_attn):
            project = attention.project
            attention.project = lambda x, own=project: own(nn.functional.layer_norm(x, x.shape[-1:]))


def first_for_last(transformer: UniD3Transformer) -> None:
    """Puts the caption before the picture."""
    own = transformer.embedding.places
    length = transformer.settings.text_length
    transformer.embedding.places = lambda: own().roll(length, dims=0)


WRONG: list[Callable[[UniD3Transformer], None]] = [
    without_alpha,
    sigmoid_gelu,
    normalised_over_tokens,
    normed_keys,
    first_for_last,
]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_what_is_done_wrong_is_seen(change: Callable[[UniD3Transformer], None]) -> None:
    transformer, arrays = goldens.read().transformer, golden_arrays("unid3/transformer.npz")
    change(transformer)
    with pytest.raises(AssertionError, match="unid3-logits"):
        assert_theirs(transformer, arrays)


def test_each_network_is_another() -> None:
    """A picture by the network of pairs, or a caption by that of captions, would not be the authors'."""
    arrays = golden_arrays("unid3/transformer.npz")
    for kind, direction in (("img", "txt"), ("txt", "img")):
        with pytest.raises(AssertionError, match="unid3-logits"):
            assert_close(arrays[f"{direction}_logits_{kind}"], arrays[f"pair_logits_{kind}"], "unid3-logits")


def test_the_given_modality_is_normalised_and_added_too() -> None:
    arrays = golden_arrays("unid3/transformer.npz")

    def without_given(block: JointBlock, met: Tensor) -> Tensor:
        normed = nn.functional.layer_norm(met, met.shape[-1:])
        return torch.cat([normed[:, : block.image_length], torch.zeros_like(normed[:, block.image_length :])], dim=1)

    transformer = goldens.read().transformer
    for block in transformer.blocks:
        block.normalised = lambda met, own=block: without_given(own, met)
    with pytest.raises(AssertionError, match="unid3-logits"):
        assert_close(outputs(transformer, arrays, "txt")["txt_logits_img"], arrays["txt_logits_img"], "unid3-logits")
