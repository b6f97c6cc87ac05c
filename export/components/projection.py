"""The projection of a context to keys and values, run once per picture, and the names of these tensors."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from x2i.models.context_attention import ContextProjection, KeyValueWeights
from x2i.runtime.bundle.calls import GraphCall

from ..lora.target import LoraTarget
from ..to_onnx import Component, Sizes

KEYS, VALUES = "key", "value"
LOCAL_KEYS, LOCAL_VALUES = "local_key", "local_value"
TOKEN_INDEX, STRENGTH = "token_index", "strength"


def layer_names(kind: str, layers: Iterable[str]) -> list[str]:
    """`key.down_blocks.0.attentions.0.transformer_blocks.0` and the like, from the layers' module paths."""
    return [f"{kind}.{path.removesuffix('.attn2')}" for path in layers]


def pattern(kind: str) -> str:
    """All layers' tensors of a kind, in a plan's notation."""
    return f"{kind}.*"


def projection_component(
    weights: KeyValueWeights,
    local: bool = False,
    biases: KeyValueWeights | None = None,
    contexts: Tensor | None = None,
    suffix: str = "",
) -> Component:
    """All layers' keys and values, [B, T, C] each, from a context [B, T, D]; B and T are free.

    `local` names them as the second attention's. Examples are rows of `contexts` [n, T, D], which the graph before this
    one gave, or normal numbers where there are none. `suffix` tells the graphs of several denoisers apart.
    """
    projection = ContextProjection(weights, biases).eval()
    width = next(iter(weights.values()))[0].shape[1]

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(5)
        if contexts is not None:
            return {"context": drawn_rows(contexts, sizes["batch"], sizes["tokens"], random)}
        return {"context": torch.randn(sizes["batch"], sizes["tokens"], width, generator=random)}

    kinds = _kinds(local)
    return Component(
        name=_graph(local) + suffix,
        module=projection,
        example=example,
        outputs=tuple(name for kind in kinds for name in layer_names(kind, projection.layers)),
        free={"context": {0: "batch", 1: "tokens"}},
        trace={"batch": 2, "tokens": 9},
        proof={"batch": 3, "tokens": 5},
        lora=None if local or biases else LoraTarget("unet", _named_weights(projection)),
    )


def _named_weights(projection: ContextProjection) -> dict[str, nn.Parameter]:
    """The matrices by the paths of the layers that they are of."""
    paths = [f"{layer}.{name}" for name in ("to_k", "to_v") for layer in projection.layers]
    return dict(zip(paths, projection.matrices, strict=True))


def drawn_rows(contexts: Tensor, batch: int, tokens: int, random: torch.Generator) -> Tensor:
    """A context [batch, tokens, D] of rows of others, [n, T, D], drawn with putting back: any size of it has numbers as
    large as those of a run."""
    rows = contexts.flatten(0, 1)
    return rows[torch.randint(len(rows), (batch, tokens), generator=random)]


def projection_stage(slot: str, prefix: str = "", local: bool = False, suffix: str = "") -> GraphCall:
    """The call of that graph on the context in `slot`, its outputs in slots of their own names behind `prefix`."""
    return GraphCall(
        _graph(local) + suffix, {"context": slot}, {pattern(kind): prefix + pattern(kind) for kind in _kinds(local)}
    )


def _graph(local: bool) -> str:
    return "local_projection" if local else "projection"


def _kinds(local: bool) -> tuple[str, str]:
    return (LOCAL_KEYS, LOCAL_VALUES) if local else (KEYS, VALUES)
