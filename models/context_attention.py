"""The cross-attention of a stock UNet, with keys and values from outside: projected once, and given to every step.

A second attention may join it: ELITE's over a subject's patches (arXiv 2302.13848), IP-Adapter's over a picture's
tokens (arXiv 2308.06721).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Module path to layer, for the modules named `attn2`, in `named_modules` order (16 of them in SD 1.5)."""
    return {path: module for path, module in unet.named_modules() if path.rpartition(".")[2] == "attn2"}


KeyValueWeights = Mapping[str, tuple[Tensor, Tensor]]
"""Attention layer's path to its key and value matrices, each [C, D], or to their biases."""
InjectedOp = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""`x2i.kernels.injected_attention.reference.injected_attention`, or what stands for it in a graph."""
AttentionOp = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(query [B, N, C], key and value [B, T, C], heads) -> attention [B, N, C]."""


@dataclass(frozen=True, slots=True)
class InjectedContext:
    """What the second attention of a call reads.

    `local_key` and `local_value` [B, L, C] by layer path; `token_index` int64 [B], the context token whose
    probabilities weight it, below 0 for a weight of 1; `strength` float32 [B], its factor.
    """

    local_key: Mapping[str, Tensor]
    local_value: Mapping[str, Tensor]
    token_index: Tensor
    strength: Tensor


class ContextProjection(nn.Module):
    """`forward(context [B, T, D])` gives every layer's keys, then every layer's values, [B, T, C] each.

    The layers are in the order of `weights`; C may differ from one to the next. `biases`, where there are any, are of
    the same layers, [C] each.
    """

    def __init__(self, weights: KeyValueWeights, biases: KeyValueWeights | None = None):
        super().__init__()
        self.layers = tuple(weights)
        self.matrices, self.biases = _parameters(weights), _parameters(biases or {})

    def forward(self, context: Tensor) -> tuple[Tensor, ...]:
        biases = list(self.biases) or [None] * len(self.matrices)
        return tuple(F.linear(context, *each) for each in zip(self.matrices, biases, strict=True))


def _parameters(pairs: KeyValueWeights) -> nn.ParameterList:
    """Every key's tensor, then every value's."""
    tensors = [pair[kind] for kind in range(2) for pair in pairs.values()]
    return nn.ParameterList([nn.Parameter(tensor, requires_grad=False) for tensor in tensors])


def cross_attention_weights(unet: UNet2DConditionModel) -> dict[str, tuple[Tensor, Tensor]]:
    """The UNet's own `to_k` and `to_v` matrices [C, D] by cross-attention layer's path, without copying."""
    return {
        path: (layer.to_k.weight.detach(), layer.to_v.weight.detach())
        for path, layer in cross_attention_layers(unet).items()
    }


def set_cross_attention_weights(unet: UNet2DConditionModel, weights: KeyValueWeights) -> None:
    """Makes these matrices, (to_k, to_v) [C, D] by layer's path, the UNet's own."""
    for path, layer in cross_attention_layers(unet).items():
        for linear, matrix in zip((layer.to_k, layer.to_v), weights[path], strict=True):
            linear.weight = nn.Parameter(matrix, requires_grad=False)


class ContextAttention:
    """A diffusers attention processor for the one `attn2` at `path`, which reads what `take` has handed it.

    `injected` computes the attention where a second one joins it. What `attend_by` was given stands in the place of the
    first; the second is weighted as if it did not.
    """

    def __init__(self, path: str, injected: InjectedOp):
        self._path, self._injected = path, injected
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._injection: InjectedContext | None = None
        self._op: AttentionOp | None = None

    def attend_by(self, op: AttentionOp | None) -> None:
        """Keeps what computes the attention over the context instead for the coming calls; None takes it away."""
        self._op = op

    def take(self, key: Tensor, value: Tensor, injection: InjectedContext | None) -> None:
        """Keeps key and value [B, T, C], and what a second attention reads, for the coming calls."""
        self._key, self._value, self._injection = key, value, injection

    def __call__(self, attn: Attention, hidden_states: Tensor, *unused: object, **also_unused: object) -> Tensor:
        """[B, N, C] to [B, N, C]; whatever context the block passes along is ignored."""
        assert self._key is not None and self._value is not None, f"{self._path} was called before take"
        query = attn.to_q(hidden_states)
        op = self._op or _attention
        if self._injection is None:
            out = op(query, self._key, self._value, attn.heads)
        elif self._op is None:
            out = self._with_second(query, self._key, self._value, self._injection, attn.heads)
        else:
            nothing = torch.zeros_like(self._value)
            second = self._with_second(query, self._key, nothing, self._injection, attn.heads)
            out = op(query, self._key, self._value, attn.heads) + second
        return attn.to_out[0](out)

    def _with_second(self, query: Tensor, key: Tensor, value: Tensor, injection: InjectedContext, heads: int) -> Tensor:
        return self._injected(
            query,
            key,
            value,
            injection.local_key[self._path],
            injection.local_value[self._path],
            injection.token_index,
            injection.strength,
            heads,
        )


def install_context_attention(unet: UNet2DConditionModel, injected: InjectedOp) -> dict[str, ContextAttention]:
    """Makes a ContextAttention the processor of every cross-attention layer of the UNet; returns them by layer path."""
    processors = {path: ContextAttention(path, injected) for path in cross_attention_layers(unet)}
    for path, layer in cross_attention_layers(unet).items():
        layer.set_processor(processors[path])
    return processors


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """[B, T, C] to [B, heads, T, C / heads]."""
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    q, k, v = (split_heads(rows, heads) for rows in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
