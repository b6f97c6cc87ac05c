"""DDCap's networks: a picture to the condition and the caption's length, and a GPT-2 that sees all words at once.

Source: DDCap (arXiv 2211.11694) and its reference code, whose key names the modules have. GPT-2's matrices are stored
[in, out].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.openai_vision import OpenAiVision, multi_head_attention

TIME_ROWS, TIME_RANGE = 20, 8000
"""A timestep's angle is the timestep / 20 x 8000, however many steps a model was trained with."""
HIDDEN = -10000.0
"""What is added to the attention's products for a column that still is the mask."""


@dataclass(frozen=True, slots=True)
class DdcapSizes:
    """The sizes of one model; the defaults are the authors'.

    `width`, `inner`, `layers`, `heads`, `vocab` and `positions` are GPT-2's; `tokens` are those of the longest caption,
    `steps` those of the diffusion. `vision_...`, `patch`, `grid` and `embed` are CLIP's (`OpenAiVision`);
    `project_hidden` and `length_hidden` are the inner widths of the two heads over it.
    """

    width: int = 768
    inner: int = 3072
    layers: int = 12
    heads: int = 12
    vocab: int = 50257
    positions: int = 1024
    tokens: int = 20
    steps: int = 20
    vision_width: int = 768
    vision_layers: int = 12
    patch: int = 16
    grid: int = 14
    embed: int = 512
    project_hidden: int = 384
    length_hidden: int = 384

    @property
    def mask_id(self) -> int:
        """The id of the mask token, the class behind the vocabulary's."""
        return self.vocab

    @property
    def time_rows(self) -> int:
        """Timesteps that a run may ask for; the first is always the last of 20."""
        return max(self.steps, TIME_ROWS)


class Ddcap(nn.Module):
    """All weights under the authors' names, the head's tied to the embedding: the three graphs are made of it."""

    def __init__(self, sizes: DdcapSizes):
        super().__init__()
        self.sizes = sizes
        vision = OpenAiVision(sizes.vision_width, sizes.vision_layers, sizes.patch, sizes.grid, sizes.embed)
        self.clip_model = nn.ModuleDict({"visual": vision})
        self.clip_project = _head(sizes.vision_width, sizes.project_hidden, sizes.width)
        self.len_head = _head(sizes.embed, sizes.length_hidden, sizes.tokens)
        self.gpt = nn.ModuleDict({"transformer": Gpt2(sizes)})
        self.bos_embedding = nn.Parameter(torch.empty(sizes.width))
        self.pad_embedding = nn.Parameter(torch.empty(sizes.grid**2, sizes.width))

    @property
    def transformer(self) -> "Gpt2":
        """The GPT-2 below the head."""
        found = self.gpt["transformer"]
        assert isinstance(found, Gpt2)
        return found


class Gpt2(nn.Module):
    """The weights of a GPT-2 with cross-attention and norms of the timestep, as the authors' class holds them."""

    def __init__(self, sizes: DdcapSizes):
        super().__init__()
        self.wte = nn.Embedding(sizes.vocab, sizes.width)
        self.wpe = nn.Embedding(sizes.positions, sizes.width)
        self.h = nn.ModuleList(Gpt2Block(sizes) for _ in range(sizes.layers))
        self.ln_f = nn.LayerNorm(sizes.width)

    @property
    def blocks(self) -> list["Gpt2Block"]:
        """The layers in their order."""
        return [block for block in self.h if isinstance(block, Gpt2Block)]


class Gpt2Block(nn.Module):
    """One layer, from h [B, N, D] to the same: attention among the words, then to the picture, then an MLP.

    `norms` are factor and summand of its three LayerNorms at the timestep, [B, 1, D] each; `key` and `value` [B, P, D]
    are the picture's; `added` hides the masked words from the others.
    """

    def __init__(self, sizes: DdcapSizes):
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.ln_1, self.ln_cross_attn, self.ln_2 = (TimeNorm(width) for _ in range(3))
        self.attn = nn.ModuleDict({"c_attn": Transposed(width, 3 * width), "c_proj": Transposed(width, width)})
        self.crossattention = nn.ModuleDict(
            {
                "q_attn": Transposed(width, width),
                "c_attn": Transposed(width, 2 * width),
                "c_proj": Transposed(width, width),
            }
        )
        self.mlp = nn.ModuleDict({"c_fc": Transposed(width, sizes.inner), "c_proj": Transposed(sizes.inner, width)})

    def norms(self, times: Tensor) -> Tensor:
        """What its norms do at each of the timesteps embedded in [T, D]: [T, 6, D]."""
        return torch.cat([norm(times) for norm in (self.ln_1, self.ln_cross_attn, self.ln_2)], 1)

    def forward(self, h: Tensor, norms: tuple[Tensor, ...], key: Tensor, value: Tensor, added: Tensor) -> Tensor:
        query, own_key, own_value = self.attn["c_attn"](_normed(h, *norms[:2])).chunk(3, -1)
        h = h + self.attn["c_proj"](multi_head_attention(query, own_key, own_value, self.heads, added))
        query = self.crossattention["q_attn"](_normed(h, *norms[2:4]))
        h = h + self.crossattention["c_proj"](multi_head_attention(query, key, value, self.heads))
        return h + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](_normed(h, *norms[4:])), approximate="tanh"))


class TimeNorm(nn.Module):
    """`forward(times [T, D])` gives what a LayerNorm's output is multiplied by and what is added, [T, 2, D]."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, times: Tensor) -> Tensor:
        scale, shift = self.linear(F.silu(times)).chunk(2, -1)
        return torch.stack([1 + scale, shift], 1)


class Transposed(nn.Module):
    """A linear layer whose matrix is stored [in, out]."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width_out))
        self.bias = nn.Parameter(torch.empty(width_out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class PictureCondition(nn.Module):
    """`forward(pixels [1, 3, n, n])` gives the condition of both sides of the guidance, [2, P, D], the learned one of
    no picture first, and the logits of the lengths, [1, tokens]: entry k is a caption of k + 1 tokens, its end among
    them."""

    def __init__(self, model: Ddcap):
        super().__init__()
        self.visual, self.project, self.length = model.clip_model["visual"], model.clip_project, model.len_head
        self.no_picture = model.pad_embedding

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches, embedding = self.visual(pixels)
        return torch.cat([self.no_picture[None], self.project["model"](patches)]), self.length["model"](embedding)


class PictureProjection(nn.Module):
    """`forward(context [B, P, D])` gives every layer's keys, then every layer's values, [B, P, D] each."""

    def __init__(self, model: Ddcap):
        super().__init__()
        blocks = model.transformer.blocks
        self.layers = tuple(f"h.{number}" for number in range(len(blocks)))
        self.projections = nn.ModuleList(block.crossattention["c_attn"] for block in blocks)

    def forward(self, context: Tensor) -> tuple[Tensor, ...]:
        pairs = [projection(context).chunk(2, -1) for projection in self.projections]
        return tuple(pair[side] for side in range(2) for pair in pairs)


class CaptionDenoiser(nn.Module):
    """`forward(tokens [B, N], timestep [B], *keys, *values)` -> logits [B, N, V] of the clean tokens, float32.

    Tokens and timesteps are int64; `sizes.mask_id` stands for what is not revealed: it has a vector of its own, and no
    other position sees it. Keys, then values, are those of `PictureProjection`. What the norms make of a timestep is
    looked up, [time_rows, 6 x layers, D]: their matrices are no part of a graph.
    """

    places: Tensor
    others: Tensor
    norms: Tensor

    def __init__(self, model: Ddcap):
        super().__init__()
        sizes, gpt = model.sizes, model.transformer
        self.sizes, self.mask_vector = sizes, model.bos_embedding
        self.wte, self.h, self.ln_f = gpt.wte, gpt.h, gpt.ln_f
        times = time_embedding(sizes.time_rows, sizes.width)
        with torch.no_grad():
            norms = torch.cat([block.norms(times) for block in gpt.blocks], 1)
        self.register_buffer("norms", norms)
        self.register_buffer("places", gpt.wpe.weight[: sizes.tokens].detach().clone())
        self.register_buffer("others", ~torch.eye(sizes.tokens, dtype=torch.bool))

    def forward(self, tokens: Tensor, timestep: Tensor, *keys_values: Tensor) -> Tensor:
        masked = tokens == self.sizes.mask_id
        words = self.wte(tokens.clamp(max=self.sizes.vocab - 1))
        h = torch.where(masked[..., None], self.mask_vector, words) + self.places
        added = torch.where(masked[:, None] & self.others, HIDDEN, 0.0)[:, None]
        norms = self.norms.index_select(0, timestep).split(1, dim=1)
        for number, block in enumerate(self.h):
            key, value = keys_values[number], keys_values[number + len(self.h)]
            h = block(h, norms[6 * number : 6 * number + 6], key, value, added)
        return F.linear(self.ln_f(h), self.wte.weight)


def time_embedding(rows: int, width: int) -> Tensor:
    """The embeddings of timesteps 0 to `rows` - 1, float32 [rows, width], sines first.

    Angles reach 7600: another rounding of a frequency, such as numpy's, moves a sine by 5e-4, so this is the authors'
    arithmetic in torch, and a constant of the graph.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angles = (torch.arange(rows) / TIME_ROWS * TIME_RANGE)[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], -1)


def _head(width: int, hidden: int, width_out: int) -> nn.ModuleDict:
    return nn.ModuleDict({"model": nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width_out))})


def _normed(h: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:]) * factor + summand
