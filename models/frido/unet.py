"""Frido's UNet: one set of weights that draws each level of the latents, the finer ones guided by the coarser.

Source: Frido (arXiv 2208.13753), its PyUNet with split heads.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from ..codecs.vqgan import Doubling
from .spade_blocks import (
    GROUPS,
    Maps,
    Pair,
    Shrink,
    Spade,
    SpadeBlock,
    SpadeTransformer,
    WideAttention,
    halved_guides,
    sinusoid,
)


@dataclass(frozen=True, slots=True)
class UnetSettings:
    """Sizes of the UNet. `levels` are the channels of each level of the latents, the coarsest first; its own sizes have
    `width * multipliers[i]` channels, and transformers where their number of halvings, as a factor, is `attended`."""

    levels: tuple[int, ...]
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attended: tuple[int, ...]
    depth: int
    context_width: int

    @property
    def multiple(self) -> int:
        """What every side of the latents is a multiple of."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def misfit(self) -> str | None:
        """Why no such network is there: what its widths must be."""
        if any(self.width * each % GROUPS for each in self.multipliers):
            return f"multiples of {GROUPS}"
        return None if self.multipliers[0] == 1 else "model_channels itself first, as its ends have"


class FridoUnet(nn.Module):
    """The noise of one level `number`: latents [B, e, h, w] of its own channels, timestep [B], a pair for each
    cross-attention, and but for the coarsest level the maps of each norm -> [B, e, h, w]."""

    def __init__(self, settings: UnetSettings):
        super().__init__()
        self.settings = settings
        width, time_width, levels = settings.width, 4 * settings.width, settings.levels
        self.time_embed = nn.Sequential(nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.stage_emb = nn.Embedding(len(levels), time_width)
        known = [sum(levels[: number + 1]) for number in range(len(levels) - 1)]
        self.pre_input_cond_blocks = nn.ModuleList(_entry(channels, width) for channels in known)
        self.pre_input_blocks = nn.ModuleList(_entry(channels, width) for channels in levels)
        self.input_blocks, skips = self._descent()
        deepest, halvings = width * settings.multipliers[-1], len(settings.multipliers) - 1
        self.middle_block = nn.ModuleList(
            [
                self._block(deepest, deepest, halvings),
                self._transformer(deepest, halvings),
                self._block(deepest, deepest, halvings),
            ]
        )
        self.output_blocks = self._ascent(deepest, skips)
        self.out = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
            for channels in levels
        )

    def _block(self, channels: int, channels_out: int, halvings: int) -> SpadeBlock:
        return SpadeBlock(channels, channels_out, self.settings.width, halvings)

    def _transformer(self, channels: int, halvings: int) -> SpadeTransformer:
        settings = self.settings
        return SpadeTransformer(channels, settings.context_width, settings.depth, settings.width, halvings)

    def _descent(self) -> tuple[nn.ModuleList, list[int]]:
        """The blocks on the way down, and the channels of all skip connections, that of the entry first."""
        settings = self.settings
        parts, skips = nn.ModuleList(), [settings.width]
        for level, multiplier in enumerate(settings.multipliers):
            for _ in range(settings.blocks):
                channels = settings.width * multiplier
                part = nn.ModuleList([self._block(skips[-1], channels, level)])
                if 2**level in settings.attended:
                    part.append(self._transformer(channels, level))
                parts.append(part)
                skips.append(channels)
            if level < len(settings.multipliers) - 1:
                parts.append(nn.ModuleList([Shrink(skips[-1])]))
                skips.append(skips[-1])
        return parts, skips

    def _ascent(self, channels: int, skips: list[int]) -> nn.ModuleList:
        settings, parts, skips = self.settings, nn.ModuleList(), list(skips)
        for level, multiplier in reversed(list(enumerate(settings.multipliers))):
            for number in range(settings.blocks + 1):
                part = nn.ModuleList([self._block(channels + skips.pop(), settings.width * multiplier, level)])
                channels = settings.width * multiplier
                if 2**level in settings.attended:
                    part.append(self._transformer(channels, level))
                if level and number == settings.blocks:
                    part.append(Doubling(channels))
                parts.append(part)
        return parts

    def forward(
        self, number: int, latents: Tensor, timestep: Tensor, pairs: Iterable[Pair], maps: Iterable[Pair] | None = None
    ) -> Tensor:
        time = self.time_embed(sinusoid(timestep, self.settings.width)) + self.stage_emb.weight[number]
        reads = _Reads(time, iter(pairs), repeat(None) if maps is None else iter(maps))
        x = self.pre_input_blocks[number](latents)
        skips = [x]
        for part in self.input_blocks:
            x = reads.applied(part, x)
            skips.append(x)
        x = reads.applied(self.middle_block, x)
        for part in self.output_blocks:
            x = reads.applied(part, torch.cat([x, skips.pop()], dim=1))
        return self.out[number](x)

    def attentions(self) -> dict[str, WideAttention]:
        """The cross-attentions by their paths, in the order in which they are called."""
        found = ((path, module) for path, module in self.named_modules() if path.endswith(".attn2"))
        return {path: module for path, module in found if isinstance(module, WideAttention)}

    def norms(self) -> dict[str, Spade]:
        """The norms that finer levels modulate by their paths, in the order in which they are called."""
        return {path: module for path, module in self.named_modules() if isinstance(module, Spade)}

    def pairs(self, context: Tensor) -> list[Pair]:
        """Keys and values of every cross-attention of a context [B, M, D], which no step changes."""
        return [attention.pair(context) for attention in self.attentions().values()]

    def maps(self, number: int, finished: Tensor) -> list[Pair]:
        """The maps of every norm of a level, made of the channels [B, E, h, w] of those before it, which no step
        changes."""
        guides = halved_guides(self.guide(number, finished), len(self.settings.multipliers))
        return [norm.maps(guides[norm.halvings]) for norm in self.norms().values()]

    def guide(self, number: int, finished: Tensor) -> Tensor:
        """What the maps of a level are made of: [B, width, h, w]."""
        return self.pre_input_cond_blocks[number - 1](finished)


@dataclass(frozen=True, slots=True)
class _Reads:
    """What blocks read beside their input, handed out in the order of their calls."""

    time: Tensor
    pairs: Iterator[Pair]
    maps: Maps

    def applied(self, parts: nn.Module, x: Tensor) -> Tensor:
        """Blocks one after the other, each with what it reads."""
        for part in parts.children():
            if isinstance(part, SpadeBlock):
                x = part(x, self.time, self.maps)
            elif isinstance(part, SpadeTransformer):
                x = part(x, self.pairs, self.maps)
            else:
                x = part(x)
        return x


def _entry(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1))
