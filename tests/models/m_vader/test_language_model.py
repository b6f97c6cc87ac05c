"""GPT-J with adapters against transformers' own, the adapters put behind its MLPs."""

import pytest
import torch
from torch import nn
from transformers import GPTJConfig, GPTJModel
from x2i.models.m_vader.language_model import LanguageModel, LanguageModelSettings
from x2i.models.random.weights import draw_weights

from tests.numerics import assert_close

SIZES = {
    "three heads, an inner width": (30, 3, 4, 50, 6),
    "one head, all of it turned": (10, 1, 10, None, 5),
    "wide heads, a pair turned": (44, 2, 2, 44, 11),
}


class Adapted(nn.Module):
    """An MLP and MAGMA's adapter behind it."""

    def __init__(self, mlp, adapter):
        super().__init__()
        self.mlp, self.adapter = mlp, adapter

    def forward(self, states):
        states = self.mlp(states)
        return states + self.adapter(states)


def models(width, heads, rotary, inner, adapter):
    """Ours, and transformers' with the same weights."""
    settings = LanguageModelSettings(23, 40, width, 3, heads, rotary, inner or 4 * width, adapter, 1e-5, 7)
    model = draw_weights(LanguageModel(settings), 5).eval()
    config = GPTJConfig(
        vocab_size=23, n_positions=40, n_embd=width, n_layer=3, n_head=heads, rotary_dim=rotary, n_inner=inner
    )
    peer = GPTJModel(config).eval()
    state = model.state_dict()
    plain = {key.replace(".mlp.0.", ".mlp."): value for key, value in state.items() if ".adapter." not in key}
    peer.load_state_dict(plain)
    for block, own in zip(peer.h, model.h, strict=True):
        block.mlp = Adapted(block.mlp, own.mlp[1].adapter)
    return model, peer


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("length", [1, 2, 17, 40])
def test_states_are_those_of_transformers(sizes, length):
    model, peer = models(*sizes)
    embeds = torch.randn(2, length, sizes[0], generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        expected = peer(inputs_embeds=embeds).last_hidden_state
        assert_close(model(embeds), expected, "m-vader-context")


def test_no_state_reads_what_comes_behind_it():
    model, _ = models(*SIZES["three heads, an inner width"])
    embeds = torch.randn(1, 9, 30, generator=torch.Generator().manual_seed(1))
    changed = torch.cat([embeds[:, :5], embeds[:, 5:].flip(1) * 2], dim=1)
    with torch.no_grad():
        assert_close(model(changed)[:, :5], model(embeds)[:, :5], "m-vader-context")
        assert (model(changed)[:, 5:] - model(embeds)[:, 5:]).abs().min() > 0
