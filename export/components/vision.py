"""CLIP's vision tower and what reads it, as the conditioners call them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from x2i.models.clip.vision import VisionLevels
from x2i.models.subjects.elite import LEVELS, GlobalMapper, LocalMapper, Mapper
from x2i.models.subjects.ip_adapter import IpAdapterTokens

from ..to_onnx import Component, Sizes, batched_component

LEVEL = "level"


class _Words(nn.Module):
    """`forward(*levels)` returns the subject's words, [B, levels, D]."""

    def __init__(self, mapper: GlobalMapper):
        super().__init__()
        self.mapper = mapper

    def forward(self, *levels: Tensor) -> Tensor:
        return self.mapper(levels)


class _Patches(nn.Module):
    """`forward(mask [B, P], *levels)` returns the subject's patches, [B, P, D]."""

    def __init__(self, mapper: LocalMapper):
        super().__init__()
        self.mapper = mapper

    def forward(self, mask: Tensor, *levels: Tensor) -> Tensor:
        return self.mapper(levels, mask)


class _Pictures(nn.Module):
    """`forward(pixels [1, n, 3, S, S])` returns the tokens of n pictures, [2, n * tokens, D]."""

    def __init__(self, tokens: IpAdapterTokens):
        super().__init__()
        self.tokens = tokens

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tokens(pixels[0])


def vision_component(tower: VisionLevels) -> Component:
    """The tower's graph: normalised pixels [B, 3, S, S] to hidden states [B, 1 + P, W] for ELITE's mappers."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(6)
        return {"pixels": torch.randn(sizes["batch"], 3, tower.image_size, tower.image_size, generator=random)}

    return batched_component("encoder", tower, example, ("pixels",), level_names(LEVELS))


def words_component(mapper: GlobalMapper, patches: int) -> Component:
    """The graph of ELITE's global mapper: the levels of a whole picture to words, [B, levels, D] float32."""
    return _mapper_component("global_mapper", _Words(mapper), mapper, patches, "words", lambda batch: {})


def patches_component(mapper: LocalMapper, patches: int) -> Component:
    """The graph of ELITE's local mapper: a mask [B, P] and the levels of the masked picture to patches, [B, P, D]."""

    def mask(batch: int) -> dict[str, Tensor]:
        return {"mask": (torch.arange(batch * patches).view(batch, patches) % 3 > 0).float()}

    return _mapper_component("local_mapper", _Patches(mapper), mapper, patches, "local", mask)


def level_names(count: int) -> tuple[str, ...]:
    """The names of the tower's hidden states between its graph and the mappers': `level.0` and on."""
    return tuple(f"{LEVEL}.{number}" for number in range(count))


def image_tokens_component(tokens: IpAdapterTokens) -> Component:
    """Vision tower and image projection in one graph: pixels [1, n, 3, S, S] to tokens [2, n * tokens, D]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(8)
        size = tokens.image_size
        return {"pixels": torch.randn(1, sizes["pictures"], 3, size, size, generator=random)}

    return Component(
        name="image_encoder",
        module=_Pictures(tokens).eval(),
        example=example,
        outputs=("tokens",),
        free={"pixels": {1: "pictures"}},
        trace={"pictures": 2},
        proof={"pictures": 3},
    )


def _mapper_component(
    name: str, module: nn.Module, mapper: Mapper, patches: int, output: str, first: Callable[[int], dict[str, Tensor]]
) -> Component:
    """A mapper's graph over the tower's levels; `first(batch)` draws the inputs that come before them."""
    levels = level_names(mapper.levels)
    inputs = tuple(first(1)) + levels

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(7)
        shape = (sizes["batch"], 1 + patches, mapper.width_in)
        return first(sizes["batch"]) | {level: torch.randn(shape, generator=random) for level in levels}

    return batched_component(name, module, example, inputs, (output,))
