"""The two halves of a VAE, whole or tiny, as the pipeline calls them."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.pictures.start_picture import StartPicture
from x2i.runtime.processes.latents import Decoder

from ..to_onnx import Component, Sizes

DECODER, PREVIEW_DECODER, ENCODER = "decoder", "preview_decoder", "vae_encoder"
"""The graphs' names; the last is opened where a run begins with a picture."""


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


class LatentsEncoder(nn.Module):
    """`forward(image [B, 3 or 1, H, W] in -1..1, noise [B, C, h, w])` returns latents as a sampler walks them.

    They are drawn with the noise from what the encoder says of them, its logarithm of the variance kept to -30..20. A
    tiny encoder draws nothing, and takes the image alone.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, scaling_factor: float):
        super().__init__()
        self.encoder, self.scaling_factor = vae.encoder, scaling_factor
        self.quant_conv = vae.quant_conv if isinstance(vae, AutoencoderKL) else None

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        moments = self.encoder(image)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        if noise is None:
            return moments * self.scaling_factor
        mean, log_variance = moments.chunk(2, dim=1)
        return (mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise) * self.scaling_factor


def encoder_component(vae: AutoencoderKL | AutoencoderTiny, scaling_factor: float) -> Component:
    """The encoder's graph: `image` float32 [B, 3 or 1, H, W] in -1..1 and, of a VAE that draws, `noise` [B, C, h, w],
    to `latents` [B, C, h, w]."""
    factor, draws = decoder_factor(vae), isinstance(vae, AutoencoderKL)
    sides = ("height", "width")

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(3)
        batch, height, width = sizes["batch"], sizes["height"], sizes["width"]
        picture = torch.rand(batch, vae.config.in_channels, height * factor, width * factor, generator=random)
        noise = torch.randn(batch, vae.config.latent_channels, height, width, generator=random)
        return {"image": picture * 2 - 1} | ({"noise": noise} if draws else {})

    return Component(
        name=ENCODER,
        module=LatentsEncoder(vae, scaling_factor).eval(),
        example=example,
        outputs=("latents",),
        free={"image": {0: "batch"} | {axis: f"{factor}*{side}" for axis, side in enumerate(sides, 2)}}
        | ({"noise": {0: "batch"} | dict(enumerate(sides, 2))} if draws else {}),
        trace={"batch": 2, "height": 10, "width": 13},
        proof={"batch": 1, "height": 9, "width": 5},
    )


def start_conditioners(vae: AutoencoderKL | AutoencoderTiny, fills: bool = False) -> tuple[Conditioner, ...]:
    """How a picture to begin with becomes latents; with `fills` a masked one does, too, which the UNet reads."""
    factor = decoder_factor(vae)
    start = StartPicture(
        channels=vae.config.latent_channels,
        factor=factor,
        multiple=max(8, factor),
        grey=vae.config.in_channels == 1,
        draws=isinstance(vae, AutoencoderKL),
        fills=fills,
    )
    calls = [
        GraphCall(
            ENCODER,
            {"image": f"{kind}_pixels"} | ({"noise": f"{kind}_draw"} if start.draws else {}),
            {"latents": f"{kind}_latents"},
        )
        for kind in ("start", *(["filled"] if fills else []))
    ]
    return tuple(Conditioner((call,), (start,) if number == 0 else ()) for number, call in enumerate(calls))


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
