"""The decoder of a VAE, whole or tiny, as the pipeline calls it."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from x2i.runtime.processes.latents import Decoder

from ..to_onnx import Component, Sizes

DECODER, PREVIEW_DECODER = "decoder", "preview_decoder"
"""The graphs' names."""


class PictureDecoder(nn.Module):
    """`forward(latents [B, C, h, w])` returns the picture, [B, 3 or 1, h * factor, w * factor], about -1..1.

    Divides by the latent scale first: latents arrive as the sampler leaves them.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, scaling_factor: float):
        super().__init__()
        self.decoder = vae.decoder
        self.post_quant_conv = vae.post_quant_conv if isinstance(vae, AutoencoderKL) else None
        self.scaling_factor = scaling_factor

    def forward(self, latents: Tensor) -> Tensor:
        latents = latents / self.scaling_factor
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)


def decoder_component(vae: AutoencoderKL | AutoencoderTiny, scaling_factor: float, name: str = DECODER) -> Component:
    """The decoder's graph of that name: `latents` float32 [B, C, h, w], as the sampler leaves them, to `image`
    [B, 3, H, W], or [B, 1, H, W] from a VAE of grey pictures."""
    channels = vae.config.latent_channels

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(2)
        shape = sizes["batch"], channels, sizes["height"], sizes["width"]
        return {"latents": torch.randn(*shape, generator=random)}

    return Component(
        name=name,
        module=PictureDecoder(vae, scaling_factor).eval(),
        example=example,
        outputs=("image",),
        free={"latents": {0: "batch", 2: "height", 3: "width"}},
        trace={"batch": 2, "height": 10, "width": 13},
        proof={"batch": 1, "height": 9, "width": 5},
    )


def decoder_factor(vae: AutoencoderKL | AutoencoderTiny) -> int:
    """Pixels of a latent's side."""
    doubles = len(vae.config.block_out_channels) - 1
    return (vae.config.upsampling_scaling_factor if isinstance(vae, AutoencoderTiny) else 2) ** doubles


def decoder_plan(
    vae: AutoencoderKL | AutoencoderTiny,
    sample_size: int | list[int] | tuple[int, int],
    layout: str,
    name: str = DECODER,
) -> Decoder:
    """How the runtime decodes; CompVis scripts truncate to bytes where diffusers rounds.

    The default size is `sample_size` latents, or the next smaller that can be drawn.
    """
    factor = decoder_factor(vae)
    multiple = max(8, factor)
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    sides = [max(side * factor // multiple, 1) * multiple for side in (height, width)]
    return Decoder(
        graph=name,
        channels=vae.config.latent_channels,
        factor=factor,
        size=(sides[0], sides[1]),
        size_multiple=multiple,
        to_uint8="truncate" if layout == "compvis" else "round",
        grey=vae.config.out_channels == 1,
    )
