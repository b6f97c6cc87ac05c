"""Frido's UNet: one set of weights that draws each level of the latents, the finer ones guided by the coarser.

Source: Frido (arXiv 2208.13753), its PyUNet with split heads.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .spade_blocks import GROUPS, Grow, Shrink, SpadeBlock, SpadeTransformer, halved_guides, sinusoid


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
    """The noise of one level `number`: latents [B, e, h, w] of its own channels, timestep [B], context [B, M, D], and
    but for the coarsest level the finished channels of all levels before it, [B, E, h, w] -> [B, e, h, w]."""

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
        deepest = width * settings.multipliers[-1]
        self.middle_block = nn.ModuleList(
            [self._block(deepest, deepest), self._transformer(deepest), self._block(deepest, deepest)]
        )
        self.output_blocks = self._ascent(deepest, skips)
        self.out = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
            for channels in levels
        )

    def _block(self, channels: int, channels_out: int) -> SpadeBlock:
        width = self.settings.width
        return SpadeBlock(channels, channels_out, 4 * width, width)

    def _transformer(self, channels: int) -> SpadeTransformer:
        settings = self.settings
        return SpadeTransformer(channels, settings.context_width, settings.depth, settings.width)

    def _descent(self) -> tuple[nn.ModuleList, list[int]]:
        """The blocks on the way down, and the channels of all skip connections, that of the entry first."""
        settings = self.settings
        parts, skips = nn.ModuleList(), [settings.width]
        for level, multiplier in enumerate(settings.multipliers):
            for _ in range(settings.blocks):
                channels = settings.width * multiplier
                part = nn.ModuleList([self._block(skips[-1], channels)])
                if 2**level in settings.attended:
                    part.append(self._transformer(channels))
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
                part = nn.ModuleList([self._block(channels + skips.pop(), settings.width * multiplier)])
                channels = settings.width * multiplier
                if 2**level in settings.attended:
                    part.append(self._transformer(channels))
                if level and number == settings.blocks:
                    part.append(Grow(channels))
                parts.append(part)
        return parts

    def forward(
        self, number: int, latents: Tensor, timestep: Tensor, context: Tensor, finished: Tensor | None = None
    ) -> Tensor:
        settings = self.settings
        time = self.time_embed(sinusoid(timestep, settings.width)) + self.stage_emb.weight[number]
        sizes = len(settings.multipliers)
        guides: list[Tensor] | list[None] = [None] * sizes
        if finished is not None:
            guides = halved_guides(self.guide(number, finished), sizes)
        x, level = self.pre_input_blocks[number](latents), 0
        skips = [x]
        for part in _parts(self.input_blocks):
            x = _applied(part, x, time, context, guides[level])
            level += isinstance(part[-1], Shrink)
            skips.append(x)
        x = _applied(list(self.middle_block), x, time, context, guides[level])
        for part in _parts(self.output_blocks):
            x = _applied(part, torch.cat([x, skips.pop()], dim=1), time, context, guides[level])
            level -= isinstance(part[-1], Grow)
        return self.out[number](x)

    def guide(self, number: int, finished: Tensor) -> Tensor:
        """The map that modulates the norms of a level, made of the channels of those before it: [B, width, h, w]."""
        return self.pre_input_cond_blocks[number - 1](finished)


def _entry(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1))


def _parts(blocks: nn.ModuleList) -> Iterator[list[nn.Module]]:
    return (list(part.children()) for part in blocks)


def _applied(parts: Iterable[nn.Module], x: Tensor, time: Tensor, context: Tensor, guide: Tensor | None) -> Tensor:
    """Blocks one after the other, each with what it reads."""
    for part in parts:
        if isinstance(part, SpadeBlock):
            x = part(x, time, guide)
        elif isinstance(part, SpadeTransformer):
            x = part(x, context, guide)
        else:
            x = part(x)
    return x
