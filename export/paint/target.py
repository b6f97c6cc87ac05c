"""The cross-attention of a denoiser that words may be painted into, and the truth that its variant is held to."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from x2i.kernels.biased_attention.reference import biased_attention
from x2i.models.context_attention import ContextAttention, cross_attention_layers
from x2i.runtime.inputs.paint import GAIN_DEVIATION, GAIN_MAX, PaintLayer, painted_name
from x2i.runtime.items.weights import KEY_BIAS
from x2i.runtime.paint.maps import latents_grid

PLACE = re.compile(r"(?:^|\.)(down_blocks|mid_block|up_blocks)(?:\.(\d+))?\.")


@dataclass(frozen=True, slots=True)
class PaintTarget:
    """The layers of a denoiser, and the processors that compute their attention, by the layers' paths."""

    layers: tuple[PaintLayer, ...]
    attention: Mapping[str, ContextAttention]

    def example(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a variant reads beside the denoiser's own `inputs`: maps of zeros and weights, one row of three without
        any, and factors of both kinds."""
        random = np.random.default_rng(13)
        batch, _, *grid = inputs["latents"].shape
        tokens = next(array.shape[1] for name, array in inputs.items() if name.startswith("key."))
        rows = np.arange(batch) % 3 > 0
        arrays = {
            painted_name(factor): rows[:, None, None]
            * (random.random((batch, np.prod(latents_grid((grid[0], grid[1]), factor)), tokens)) > 0.7)
            * random.uniform(0.2, 2, (batch, 1, tokens))
            for factor in sorted({layer.factor for layer in self.layers})
        }
        arrays |= {
            GAIN_MAX: random.uniform(0.1, 0.6, batch),
            GAIN_DEVIATION: random.uniform(0, 0.6, batch),
            KEY_BIAS: random.standard_normal((batch, tokens)),
        }
        return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def paint_target(unet: UNet2DConditionModel, attention: Mapping[str, ContextAttention]) -> PaintTarget:
    """The cross-attention layers of a UNet, each with how often the latents were halved on the way to it."""
    last = len(unet.config.down_block_types) - 1
    layers = []
    for path, layer in cross_attention_layers(unet).items():
        found = PLACE.search(path)
        assert found is not None, f"{path}: a cross-attention in no block"
        number = int(found[2] or last)
        halved = {"down_blocks": number, "mid_block": last, "up_blocks": last - number}[found[1]]
        layers.append(PaintLayer(path, 2**halved, layer.heads))
    return PaintTarget(tuple(layers), attention)


@contextmanager
def painted_attention(target: PaintTarget, arrays: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside it, the layers compute biased attention over these maps and factors."""
    for layer in target.layers:
        bias = arrays[painted_name(layer.factor)]
        target.attention[layer.path].attend_by(partial(_biased, bias, arrays))
    try:
        yield
    finally:
        for layer in target.layers:
            target.attention[layer.path].attend_by(None)


def _biased(
    bias: Tensor, arrays: Mapping[str, Tensor], query: Tensor, key: Tensor, value: Tensor, heads: int
) -> Tensor:
    gains = arrays[GAIN_MAX], arrays[GAIN_DEVIATION], arrays[KEY_BIAS]
    return biased_attention(query, key, value, bias, *gains, heads)
