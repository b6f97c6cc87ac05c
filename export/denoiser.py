"""The UNet as the loop calls it."""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .component import Component, Sizes
from .errors import PlanError


class NoisePrediction(nn.Module):
    """A stock UNet2DConditionModel of the Stable Diffusion v1 kind, for any latent size.

    `forward(latents [B, C, h, w], timestep [B], context [B, T, D])` gives the noise, [B, C, h, w]. Every upsampler is
    told the size of the skip it meets, so sizes that do not halve evenly work in the same graph.
    """

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        unet = self.unet
        time = unet.time_embedding(unet.time_proj(timestep).to(latents.dtype))
        x = unet.conv_in(latents)
        skips = [x]
        for block in unet.down_blocks:
            x, outputs = block(hidden_states=x, temb=time, **_cross(block, context))
            skips += outputs
        if unet.mid_block is not None:
            x = unet.mid_block(x, time, encoder_hidden_states=context)
        for block in unet.up_blocks:
            met, skips = tuple(skips[-len(block.resnets) :]), skips[: -len(block.resnets)]
            size = skips[-1].shape[2:] if skips else None
            x = block(
                hidden_states=x, temb=time, res_hidden_states_tuple=met, upsample_size=size, **_cross(block, context)
            )
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def _cross(block: nn.Module, context: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}


UNSUPPORTED = (
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
    "time_embedding_act_fn",
    "timestep_post_act",
    "center_input_sample",
)
"""Settings of the stock class that change the computation and that Stable Diffusion v1 does not use."""


def denoiser_component(unet: UNet2DConditionModel, tokens: int) -> Component:
    """The denoiser's graph; raises PlanError for a UNet that is not of the v1 kind."""
    used = {name: unet.config[name] for name in UNSUPPORTED if unet.config.get(name)}
    if used:
        raise PlanError(f"unet: expected a Stable Diffusion v1 UNet, got one with {used}")
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        batch = sizes["batch"]
        return {
            "latents": torch.randn(batch, channels, sizes["height"], sizes["width"], generator=random),
            "timestep": torch.rand(batch, generator=random) * 999,
            "context": torch.randn(batch, sizes["tokens"], width, generator=random),
        }

    return Component(
        name="denoiser",
        module=NoisePrediction(unet).eval(),
        example=example,
        output="noise",
        free={
            "latents": {0: "batch", 2: "height", 3: "width"},
            "timestep": {0: "batch"},
            "context": {0: "batch", 1: "tokens"},
        },
        trace={"batch": 2, "height": 18, "width": 22, "tokens": tokens},
        proof={"batch": 3, "height": 9, "width": 13, "tokens": tokens},
    )
