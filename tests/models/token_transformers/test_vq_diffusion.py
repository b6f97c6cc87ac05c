"""VQ-Diffusion's transformer, from its authors' files, against their logits; and that what is done wrong is seen."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from x2i.models.context_attention import ContextProjection
from x2i.models.readers.tensors import read_section
from x2i.models.token_transformers.layers import AdaptiveNorm, SigmoidGelu, TabledNorm
from x2i.models.token_transformers.vq_diffusion import TokenTransformer, fold_tables
from x2i.models.token_transformers.vq_diffusion_checkpoint import NULL_CLASS, TRANSFORMER, read_vq_diffusion
from x2i.models.token_transformers.vq_diffusion_config import read_vq_diffusion_config

from tests.goldens import golden_arrays
from tests.models.token_transformers.token_goldens import GoldenModel, models
from tests.numerics import assert_close

MODELS = pytest.mark.parametrize("model", models("vq_diffusion", "cdcd"))


def read(model: GoldenModel) -> TokenTransformer:
    return read_vq_diffusion(model.checkpoint_file, read_vq_diffusion_config(model.config_file)).transformer


@torch.no_grad()
def logits(transformer: TokenTransformer, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """As the golden has them, [timesteps, B, K, L]."""
    ids, condition = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays.get("cond", np.zeros(2)))
    given = {}
    if transformer.settings.class_rows is not None:
        given = {"class_id": condition.long()}
    elif transformer.settings.context_width is not None:
        given = {"context": ContextProjection(*transformer.context_weights())(condition)}
    made = [transformer(ids, torch.full((len(ids),), int(t)), **given) for t in arrays["t"]]
    return torch.stack(made).transpose(2, 3).numpy()


@MODELS
@pytest.mark.parametrize("folded", [False, True])
def test_logits_are_the_authors(model: GoldenModel, folded: bool) -> None:
    transformer, arrays = read(model), golden_arrays(model.arrays("transformer"))
    if folded:
        fold_tables(transformer)
        assert not any(isinstance(module, AdaptiveNorm) for module in transformer.modules())
        assert any(isinstance(module, TabledNorm) for module in transformer.modules())
    assert_close(logits(transformer, arrays), arrays["logits"], "token-logits")
    embedded = transformer.content_emb(torch.from_numpy(arrays["ids"])).detach().numpy()
    assert_close(embedded[:, : arrays["content_emb"].shape[1]], arrays["content_emb"], "content-embedding")


def erf_gelu(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    for module in list(transformer.modules()):
        for name, child in module.named_children():
            if isinstance(child, SigmoidGelu):
                setattr(module, name, nn.GELU())


def own_corner(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    """Takes each token's place from its own row and column, where the table is larger than the grid."""
    embedding, side = transformer.content_emb, int(transformer.settings.length**0.5)
    if embedding.width_emb.num_embeddings == side:
        pytest.skip("the table has the size of the grid")
    for table in (embedding.height_emb, embedding.width_emb):
        table.weight = nn.Parameter(table.weight[:side].clone())


def causal(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    """Heeds the masks that lie beside the weights."""
    for block in transformer.blocks:
        attention = block.attn1 if block.reads_text else block.attn
        attention.forward = lambda x, key, value, own=attention: _masked(own, x, key, value)


def _masked(attention: nn.Module, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (t.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for t in (attention.query(x), key, value))
    seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attention.proj(seen.transpose(1, 2).flatten(2))


def without_padding(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    _requires_text(transformer)
    arrays["cond"] = arrays["cond"][:, : arrays["cond"].shape[1] // 2]


def longer_vectors(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    """Texts that are not normalised have norms of about the root of their width."""
    _requires_text(transformer)
    arrays["cond"] = arrays["cond"] * np.float32(arrays["cond"].shape[-1] ** 0.5)


def _requires_text(transformer: TokenTransformer) -> None:
    if transformer.settings.context_width is None:
        pytest.skip("reads no text")


def decoy_weights(transformer: TokenTransformer, arrays: dict[str, np.ndarray], model: GoldenModel) -> None:
    """Reads what lies under `model`."""
    weights = read_section(model.checkpoint_file, "model", "")
    own = {key: weights[f"transformer.{TRANSFORMER}{key}"] for key in transformer.state_dict()}
    transformer.load_state_dict(own)


@MODELS
@pytest.mark.parametrize(
    "mutation", [erf_gelu, own_corner, causal, without_padding, longer_vectors, decoy_weights], ids=lambda m: m.__name__
)
def test_what_is_done_wrong_is_seen(model: GoldenModel, mutation: Callable) -> None:
    transformer, arrays = read(model), golden_arrays(model.arrays("transformer"))
    expected = arrays["logits"]
    mutation(transformer, arrays, model)
    with pytest.raises(AssertionError, match="token-logits"):
        assert_close(logits(transformer, arrays), expected, "token-logits")


@pytest.mark.parametrize("folded", [False, True])
@MODELS
def test_every_row_has_its_own_class(model: GoldenModel, folded: bool) -> None:
    """Also where one of them is none; the authors' code asks the first row alone, and runs the two one by one."""
    transformer, arrays = read(model), golden_arrays(model.arrays("transformer"))
    if (rows := transformer.settings.class_rows) is None:
        pytest.skip("no classes")
    ids, timestep = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["t"][[0, -1]])
    mean = torch.stack([block.ln2.emb.weight.mean(dim=0) for block in transformer.blocks])
    if folded:
        fold_tables(transformer)
    classes = torch.tensor([NULL_CLASS, 1])
    with torch.no_grad():
        both = transformer(ids, timestep, classes)
        alone = [transformer(ids[n : n + 1], timestep[n : n + 1], classes[n : n + 1]) for n in range(2)]
    assert_close(both.numpy(), torch.cat(alone).numpy(), "token-logits")
    if rows > NULL_CLASS or folded:
        return
    for block, row in zip(transformer.blocks, mean, strict=True):
        block.ln2.emb.weight = nn.Parameter(row.expand(rows, -1).clone())
    with torch.no_grad():
        assert_close(both[:1].numpy(), transformer(ids[:1], timestep[:1], torch.tensor([0])).numpy(), "token-logits")
