"""ELITE's two mapping networks: from a vision tower's hidden states to words, and to one feature per patch."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

LEVELS = 5
"""Hidden states that the published mappers read."""


def mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Three linears, a LayerNorm and a leaky ReLU after the first two; positions are the checkpoints' key names."""
    return nn.Sequential(
        nn.Linear(width_in, hidden),
        nn.LayerNorm(hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, width_out),
    )


class Mapper(nn.Module):
    """What both mappers hold: for each level one MLP for the class token and one for the patches, none shared.

    A level is one hidden state [B, 1 + P, width_in] of the vision tower with its class token first. Key names are the
    released checkpoints' own. Source: ELITE (arXiv 2302.13848) and its reference code.
    """

    def __init__(self, width_in: int, width_out: int, hidden: int = 1024, levels: int = LEVELS):
        super().__init__()
        self.width_in, self.width_out, self.hidden, self.levels = width_in, width_out, hidden, levels
        for level in range(levels):
            self.add_module(f"mapping_{level}", mlp(width_in, hidden, width_out))
            self.add_module(f"mapping_patch_{level}", mlp(width_in, hidden, width_out))

    def mapped(self, levels: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each level the mapped class token [B, 1, width_out] and the mapped patches [B, P, width_out]."""
        for number, features in zip(range(self.levels), levels, strict=True):
            word = self.get_submodule(f"mapping_{number}")(features[:, :1])
            yield word, self.get_submodule(f"mapping_patch_{number}")(features[:, 1:])


class GlobalMapper(Mapper):
    """One word per level: its class token's plus the average of its patches', [B, levels, width_out]."""

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return torch.cat([word + patches.mean(1, keepdim=True) for word, patches in self.mapped(levels)], 1)


class LocalMapper(Mapper):
    """One feature per patch, averaged over the levels and multiplied by the mask: [B, P, width_out].

    mask [B, P] is 1 on the subject. Patches outside it become rows of zeros, which stay in the sequence: they have a
    share in the attention's softmax.
    """

    def forward(self, levels: Sequence[Tensor], mask: Tensor) -> Tensor:
        features = torch.stack([word + patches for word, patches in self.mapped(levels)]).mean(0)
        return features * mask.unsqueeze(-1).to(features.dtype)
