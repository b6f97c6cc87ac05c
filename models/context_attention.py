"""The cross-attention layers of a stock UNet, in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Module path to layer, for the modules named `attn2`, in `named_modules` order (16 of them in SD 1.5)."""
    return {path: module for path, module in unet.named_modules() if path.rpartition(".")[2] == "attn2"}


KeyValueWeights = Mapping[str, tuple[Tensor, Tensor]]
"""Attention layer's path to its key and value matrices, each [C, D] without bias."""
InjectedOp = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""`x2i.kernels.injected_attention.reference.injected_attention`, or what stands for it in a graph."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What a second attention adds: local_key and local_value by layer path, [B, L, C] each; token_index int64 [B];
    strength [B]."""

    local_key: Mapping[str, Tensor]
    local_value: Mapping[str, Tensor]
    token_index: Tensor
    strength: Tensor


class ContextProjection(nn.Module):
    """`forward(context [B, T, D])` gives every layer's keys, then every layer's values, [B, T, C] each."""

    def __init__(self, weights: KeyValueWeights):
        super().__init__()
        self.layers = tuple(weights)
        self.keys = nn.ParameterList([nn.Parameter(key, requires_grad=False) for key, _ in weights.values()])
        self.values = nn.ParameterList([nn.Parameter(value, requires_grad=False) for _, value in weights.values()])

    def forward(self, context: Tensor) -> tuple[Tensor, ...]:
        return tuple(F.linear(context, weight) for weight in (*self.keys, *self.values))


def own_weights(unet: UNet2DConditionModel) -> dict[str, tuple[Tensor, Tensor]]:
    """The UNet's own `to_k` and `to_v` of every cross-attention layer, without copying."""
    return {
        path: (layer.to_k.weight.detach(), layer.to_v.weight.detach())
        for path, layer in cross_attention_layers(unet).items()
    }


class ContextAttention:
    """A diffusers attention processor for one `attn2`; `take` hands it the keys and values of the coming call."""

    def __init__(self, path: str, injected: InjectedOp):
        self._path, self._injected = path, injected
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._injection: Injection | None = None

    def take(self, key: Tensor, value: Tensor, injection: Injection | None) -> None:
        self._key, self._value, self._injection = key, value, injection

    def __call__(self, attn: Attention, hidden_states: Tensor, *unused: object, **also_unused: object) -> Tensor:
        """[B, N, C] to [B, N, C]; whatever context the block passes along is ignored."""
        assert self._key is not None and self._value is not None, f"{self._path} was called before take"
        query = attn.to_q(hidden_states)
        if self._injection is None:
            out = _attention(query, self._key, self._value, attn.heads)
        else:
            out = self._injected(
                query,
                self._key,
                self._value,
                self._injection.local_key[self._path],
                self._injection.local_value[self._path],
                self._injection.token_index,
                self._injection.strength,
                attn.heads,
            )
        return attn.to_out[0](out)


def install(unet: UNet2DConditionModel, injected: InjectedOp) -> dict[str, ContextAttention]:
    """Gives every cross-attention layer of the UNet a ContextAttention, and returns them by path."""
    processors = {path: ContextAttention(path, injected) for path in cross_attention_layers(unet)}
    for path, layer in cross_attention_layers(unet).items():
        layer.set_processor(processors[path])
    return processors


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
