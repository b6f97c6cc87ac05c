"""The transformer of aMUSEd (arXiv 2401.01808), diffusers' UVit2DModel, in two halves: what is computed once for a
picture, and what every step computes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn

from ..context_attention import split_heads

if TYPE_CHECKING:
    from diffusers.models.attention import BasicTransformerBlock, SkipFFTransformerBlock
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.uvit_2d import ConvNextBlock, UVit2DModel, UVitBlock


Pairs = dict[str, tuple[Tensor, Tensor]]
"""Keys and values, or what is multiplied by and what is added, by the path of a layer."""


def reading_layers(model: "UVit2DModel") -> Iterator[tuple[str, Any, nn.Linear | None]]:
    """Every attention that reads the text, in the order of the network: its path, itself, and the linear map that the
    text takes to it, where there is one. The blocks of convolutions have two of them each, and none that reads the
    picture."""
    for path, block in _conv_blocks(model):
        for number, attention in enumerate(block.attention_blocks):
            for name in ("attn1", "attn2"):
                yield f"{path}.attention_blocks.{number}.{name}", getattr(attention, name), attention.kv_mapper
        if path == "down_block":
            for number, layer in enumerate(model.transformer_layers):
                yield f"transformer_layers.{number}.attn2", layer.attn2, None


def modulations(model: "UVit2DModel") -> dict[str, nn.Linear]:
    """The linear maps of the condition to a scale and a shift, [2 C], by the paths of what they act on."""
    found = {
        f"{path}.res_blocks.{number}": block.cond_embeds_mapper
        for path, blocks in _conv_blocks(model)
        for number, block in enumerate(blocks.res_blocks)
    }
    return found | {
        f"transformer_layers.{number}.{name}": getattr(layer, name).linear
        for number, layer in enumerate(model.transformer_layers)
        for name in ("norm1", "norm2", "norm3")
    }


class UVitContext(nn.Module):
    """What does not depend on the tokens. `forward(hidden [B, T, D], pooled [B, P], micro [B, 5])` returns the keys of
    every reading layer, [B, heads, C / heads, T] and scaled, then their values, [B, heads, T, C / heads], then what
    every modulation multiplies by, then what it adds, [B, 1, C] each.

    `hidden` and `pooled` are CLIP's, `micro` is width, height, both edges of the crop, all in pixels, and the score of
    the picture's looks.
    """

    def __init__(self, model: "UVit2DModel"):
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor, pooled: Tensor, micro: Tensor) -> tuple[Tensor, ...]:
        text = self.model.encoder_proj_layer_norm(self.model.encoder_proj(hidden))
        keys, values, scales, shifts = [], [], [], []
        for _, attention, mapper in reading_layers(self.model):
            read = text if mapper is None else mapper(F.silu(text))
            keys.append(_key(attention, read))
            values.append(split_heads(attention.to_v(read), attention.heads))
        condition = F.silu(self._condition(pooled, micro))[:, None]
        for linear in modulations(self.model).values():
            scale, shift = linear(condition).chunk(2, dim=-1)
            scales.append(1 + scale)
            shifts.append(shift)
        return *keys, *values, *scales, *shifts

    def _condition(self, pooled: Tensor, micro: Tensor) -> Tensor:
        from diffusers.models.embeddings import get_timestep_embedding

        width = self.model.config.micro_cond_encode_dim
        waves = get_timestep_embedding(micro.flatten(), width, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.model.cond_embed(torch.cat([pooled, waves.reshape(pooled.shape[0], -1)], dim=1))


class UVitLogits(nn.Module):
    """What every step computes: `forward(tokens int64 [B, h, w], *context)` returns logits, [B, h, w, classes], with
    the context that UVitContext returns. With `downsample`, h and w are even.

    Channels are the last axis throughout. The embedding, its norm and its convolution see one token at a time: they
    are one table here.
    """

    def __init__(self, model: "UVit2DModel"):
        super().__init__()
        self.model = model
        embed = model.embed
        with torch.no_grad():
            rows = _pointwise(embed.conv)(embed.layer_norm(embed.embeddings.weight))
        self.table = nn.Embedding.from_pretrained(rows)
        self.narrow, self.classify = _pointwise(model.mlm_layer.conv1), _pointwise(model.mlm_layer.conv2)
        self._reading = [path for path, _, _ in reading_layers(model)]
        self._modulated = list(modulations(model))

    def forward(self, tokens: Tensor, *context: Tensor) -> Tensor:
        model, count = self.model, 2 * len(self._reading)
        read, modulated = _paired(self._reading, context[:count]), _paired(self._modulated, context[count:])
        x = self._convolved(self.table(tokens), "down_block", read, modulated)
        places = x.shape[:3]
        x = model.project_to_hidden(_normed(model.project_to_hidden_norm, x)).flatten(1, 2)
        for number, layer in enumerate(model.transformer_layers):
            x = _transformed(layer, x, f"transformer_layers.{number}", read, modulated)
        x = model.project_from_hidden(_normed(model.project_from_hidden_norm, x)).reshape(*places, -1)
        x = self._convolved(x, "up_block", read, modulated)
        return self.classify(_normed(model.mlm_layer.layer_norm, self.narrow(x)))

    def _convolved(self, x: Tensor, path: str, read: Pairs, modulated: Pairs) -> Tensor:
        block: UVitBlock = getattr(self.model, path)
        if block.downsample is not None:
            # The padding of the original is below and right of an even grid, where the strides do not reach.
            x = _channels_last(block.downsample.conv, _normed(block.downsample.norm, x))
        for number, (residual, attention) in enumerate(zip(block.res_blocks, block.attention_blocks, strict=True)):
            x = _conv_next(residual, x, *modulated[f"{path}.res_blocks.{number}"])
            x = _read_text(attention, x.flatten(1, 2), f"{path}.attention_blocks.{number}", read).reshape(x.shape)
        if block.upsample is not None:
            x = _channels_last(block.upsample.conv, _normed(block.upsample.norm, x))
        return x


def _conv_blocks(model: "UVit2DModel") -> "tuple[tuple[str, UVitBlock], ...]":
    return ("down_block", model.down_block), ("up_block", model.up_block)


def _pointwise(conv: nn.Conv2d) -> nn.Linear:
    """A convolution of one pixel as the linear map that it is, with the same weights."""
    linear = nn.Linear(conv.in_channels, conv.out_channels, conv.bias is not None, device="meta")
    linear.weight = nn.Parameter(conv.weight[:, :, 0, 0], requires_grad=False)
    bias = None if conv.bias is None else nn.Parameter(conv.bias, requires_grad=False)
    linear.register_parameter("bias", bias)
    return linear


def _channels_last(conv: nn.Module, x: Tensor) -> Tensor:
    moved: Tensor = conv(x.permute(0, 3, 1, 2))
    return moved.permute(0, 2, 3, 1)


def _conv_next(block: "ConvNextBlock", x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    y = _normed(block.norm, _channels_last(block.depthwise, x))
    y = block.channelwise_norm(block.channelwise_act(block.channelwise_linear_1(y)))
    return (block.channelwise_linear_2(y) + x) * scale[:, None] + shift[:, None]


def _read_text(block: "SkipFFTransformerBlock", x: Tensor, path: str, read: Pairs) -> Tensor:
    x = x + _attended(block.attn1, _normed(block.norm1, x), *read[f"{path}.attn1"])
    return x + _attended(block.attn2, _normed(block.norm2, x), *read[f"{path}.attn2"])


def _transformed(layer: "BasicTransformerBlock", x: Tensor, path: str, read: Pairs, modulated: Pairs) -> Tensor:
    def shifted(name: str) -> Tensor:
        scale, shift = modulated[f"{path}.{name}"]
        return _normed(getattr(layer, name).norm, x) * scale + shift

    y, own = shifted("norm1"), layer.attn1
    x = x + _attended(own, y, _key(own, y), split_heads(own.to_v(y), own.heads))
    x = x + _attended(layer.attn2, shifted("norm2"), *read[f"{path}.attn2"])
    return x + layer.ff(shifted("norm3"))


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """The norm of x. diffusers multiplies by a reciprocal root where this divides by the root, which runtimes know."""
    if not isinstance(norm, RMSNorm):
        other: Tensor = norm(x)
        return other
    rows = x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + norm.eps)
    return rows if norm.weight is None else rows * norm.weight


def _attended(attention: Any, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query = split_heads(attention.to_q(x), attention.heads)
    out: Tensor = attention.to_out[0]((torch.softmax(query @ key, dim=-1) @ value).transpose(1, 2).flatten(2))
    return out


def _key(attention: "Attention", x: Tensor) -> Tensor:
    """[B, heads, C / heads, T], so that no step turns it or scales with it."""
    key: Tensor = attention.to_k(x)
    return key.unflatten(-1, (attention.heads, -1)).permute(0, 2, 3, 1) * attention.scale


def _paired(names: list[str], tensors: tuple[Tensor, ...]) -> Pairs:
    """By each name a tensor of the first half and one of the second."""
    return dict(zip(names, zip(tensors[: len(names)], tensors[len(names) :], strict=True), strict=True))
