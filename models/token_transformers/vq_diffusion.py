"""VQ-Diffusion's transformer: from tokens, some of them masked, to the logits of the clean token at each place.

Source: VQ-Diffusion (arXiv 2111.14822), whose code CDCD (arXiv 2206.07771) and Diffsound (arXiv 2207.09983) share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..context_attention import KeyValueWeights
from .layers import AdaptiveNorm, ConvolutionalMlp, SigmoidGelu, TokenAttention, table_norms


@dataclass(frozen=True, slots=True)
class TokenTransformerSettings:
    """The transformer's sizes.

    `classes` counts the tokens without the mask, whose id it is; `steps` the timesteps, `length` the tokens of a state.
    `position_grid` is (height, width) of the position table, whose first `length` places the tokens take in row-major
    order, whatever their own grid. Texts are read at `context_width`; classes have `class_rows` embeddings; without
    both the transformer is unconditional.
    """

    classes: int
    steps: int
    length: int
    position_grid: tuple[int, int]
    width: int
    layers: int
    heads: int
    mlp_factor: int = 4
    convolutional: bool = False
    context_width: int | None = None
    class_rows: int | None = None

    def __post_init__(self) -> None:
        assert self.context_width is None or self.class_rows is None, "a text and a class"


class ContentEmbedding(nn.Module):
    """`forward(tokens int64 [B, N])` gives [B, N, D]: each token's vector and its place's."""

    def __init__(self, settings: TokenTransformerSettings):
        super().__init__()
        self.emb = nn.Embedding(settings.classes + 1, settings.width)
        height, width = settings.position_grid
        self.height_emb = nn.Embedding(height, settings.width)
        self.width_emb = nn.Embedding(width, settings.width)
        self.length = settings.length

    def places(self) -> Tensor:
        """[length, D], the vectors of all places."""
        return (self.height_emb.weight[:, None] + self.width_emb.weight).flatten(0, 1)[: self.length]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.emb(tokens) + self.places()


class PlacedEmbedding(nn.Module):
    """A ContentEmbedding with its places added up beforehand."""

    def __init__(self, embedding: ContentEmbedding):
        super().__init__()
        self.emb = embedding.emb
        self.places = nn.Parameter(embedding.places().detach().contiguous(), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.emb(tokens) + self.places


class TokenBlock(nn.Module):
    """Self-attention, attention to a text where there is one, and an MLP, each behind its norm and added.

    `forward(x [B, N, D], timestep int64 [B], class_id int64 [B] or None, keys_values)` returns [B, N, D]. The class
    steers the MLP's norm, the timestep all others.
    """

    def __init__(self, settings: TokenTransformerSettings):
        super().__init__()
        width, inner = settings.width, settings.width * settings.mlp_factor
        attention = TokenAttention(width, width, settings.heads)
        self.reads_text = settings.context_width is not None
        self.ln1 = AdaptiveNorm(settings.steps, width)
        if settings.context_width is not None:
            self.attn1 = attention
            self.ln1_1 = AdaptiveNorm(settings.steps, width)
            self.attn2 = TokenAttention(width, settings.context_width, settings.heads)
        else:
            self.attn = attention
        rows = settings.class_rows
        self.ln2 = nn.LayerNorm(width) if rows is None else AdaptiveNorm(rows, width, with_mean=True)
        self.mlp = (
            ConvolutionalMlp(width, inner)
            if settings.convolutional
            else nn.Sequential(nn.Linear(width, inner), SigmoidGelu(), nn.Linear(inner, width))
        )

    def forward(
        self, x: Tensor, timestep: Tensor, class_id: Tensor | None, keys_values: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        attention = self.attn1 if self.reads_text else self.attn
        normed = self.ln1(x, timestep)
        x = x + attention(normed, *attention.project(normed))
        if keys_values is not None:
            x = x + self.attn2(self.ln1_1(x, timestep), *keys_values)
        return x + self.mlp(self.ln2(x) if class_id is None else self.ln2(x, class_id))


class TokenTransformer(nn.Module):
    """`forward(tokens int64 [B, N], timestep int64 [B])` returns logits [B, N, classes].

    Tokens are 0..classes, of which the last is the mask; timesteps 0..steps-1. With classes it reads `class_id`, int64
    [B], where an id without an embedding means the mean of all; with a text `context`, every layer's keys and then
    every layer's values, [B, T, D] each, as a ContextProjection of `context_weights` makes them.
    """

    def __init__(self, settings: TokenTransformerSettings):
        super().__init__()
        self.settings = settings
        self.content_emb: nn.Module = ContentEmbedding(settings)
        self.blocks = nn.ModuleList(TokenBlock(settings) for _ in range(settings.layers))
        self.to_logits = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, settings.classes))

    def forward(
        self, tokens: Tensor, timestep: Tensor, class_id: Tensor | None = None, context: Sequence[Tensor] = ()
    ) -> Tensor:
        layers, reads_text = len(self.blocks), self.settings.context_width is not None
        assert (class_id is None) == (self.settings.class_rows is None), "a class where classes are"
        assert len(context) == (2 * layers if reads_text else 0), "keys and values of every layer"
        if class_id is not None:
            # One for all that have no embedding.
            class_id = class_id.minimum(torch.tensor(self.settings.class_rows))
        x = self.content_emb(tokens)
        for number, block in enumerate(self.blocks):
            keys_values = (context[number], context[layers + number]) if reads_text else None
            x = block(x, timestep, class_id, keys_values)
        return self.to_logits(x)

    def context_weights(self) -> tuple[KeyValueWeights, KeyValueWeights]:
        """The matrices and the biases that make keys and values of a text, by the paths of the layers that read it."""
        matrices: dict[str, tuple[Tensor, Tensor]] = {}
        biases: dict[str, tuple[Tensor, Tensor]] = {}
        for number, block in enumerate(self.blocks):
            layer = getattr(block, "attn2", None)
            if isinstance(layer, TokenAttention):
                path = f"blocks.{number}.attn2"
                matrices[path] = layer.key.weight.detach(), layer.value.weight.detach()
                biases[path] = layer.key.bias.detach(), layer.value.bias.detach()
        return matrices, biases


@torch.no_grad()
def fold_tables(transformer: TokenTransformer) -> TokenTransformer:
    """Multiplies out, in place, what a step only looks up: the norms' embeddings with their linear layers, and the
    places' two embeddings. Returns the transformer, which computes the same to float32's rounding."""
    assert isinstance(transformer.content_emb, ContentEmbedding), "folded twice"
    transformer.content_emb = PlacedEmbedding(transformer.content_emb)
    table_norms(transformer)
    return transformer
