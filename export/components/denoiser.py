"""The injected attention as a graph records it: one node while tracing, the fp32 reference otherwise."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import AttnUpBlock2D
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.kernels.domain import ATTRIBUTES, DOMAIN, VERSION
from x2i.kernels.injected_attention.op import NAME
from x2i.kernels.injected_attention.reference import injected_attention
from x2i.models.context_attention import InjectedContext, InjectedOp, cross_attention_layers, install_context_attention
from x2i.models.weighted_attention import KeyWeights, weighted_attention
from x2i.runtime.items.weights import KEY_BIAS, KEY_STRETCH, UNREAD
from x2i.runtime.processes.latents import DRAWN_ANEW

from ..lora.target import module_target
from ..paint.target import paint_target
from ..to_onnx import Component, Sizes
from .projection import KEYS, LOCAL_KEYS, LOCAL_VALUES, STRENGTH, TOKEN_INDEX, VALUES, layer_names, pattern

GUIDANCE = "guidance"
"""The input of a denoiser that reads its guidance scale."""
FILLED_LATENTS = "filled_latents"
ADDED = "added"
"""The input of a denoiser that reads a vector [B, W] beside the context, which is added to the time's embedding."""
FILLED = (DRAWN_ANEW, FILLED_LATENTS)
"""What a UNet that fills pictures reads beside latents, in slots of the same names."""
WEIGHTS = (KEY_BIAS, KEY_STRETCH)
"""What a denoiser reads behind keys and values of tokens that have weights, in slots of the same names."""


def injected_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
) -> Tensor:
    """Same arguments and result as `injected_attention`."""
    inputs = (query, key, value, local_key, local_value, token_index, strength)
    if not torch.compiler.is_exporting():
        return injected_attention(*inputs, num_heads)
    scale = (query.shape[-1] // num_heads) ** -0.5
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{NAME}",
        inputs,
        {"num_heads": num_heads, "scale": scale, **ATTRIBUTES},
        dtype=query.dtype,
        shape=query.shape,
        version=VERSION,
    )


class NoisePrediction(nn.Module):
    """A stock UNet2DConditionModel whose settings `x2i.models.stable_diffusion.drawable` takes, for any latent size.

    `forward(latents [B, C, h, w], timestep [B], *context)` returns the noise, [B, C, h, w]. The context is every
    layer's keys, then every layer's values, [B, T, C] each; an injected UNet reads the local keys and values, the token
    index [B] and the strength [B] behind them. In front of it stand, in this order, the scale [B] of a UNet that embeds
    its guidance (`time_cond_proj_dim`); the vector [B, W] of one whose class embedding is a projection; and of one that
    `fills`, what is drawn anew, [B, 1, h, w], and the latents of the picture without it, [B, C, h, w]: channels behind
    those of the latents. One that is `weighted` reads the bias and the stretch of the keys, [B, T] each, behind all
    (see KeyWeights). Every upsampler gets the size of the skip connection that it meets, so that sizes which do not
    halve evenly work in the same graph.
    """

    def __init__(
        self, unet: UNet2DConditionModel, op: InjectedOp = injected_op, fills: bool = False, weighted: bool = False
    ):
        super().__init__()
        self.unet, self.fills, self.weighted = unet, fills, weighted
        self.attention = install_context_attention(unet, op)
        """The processors of the cross-attention, by its layers' paths."""
        self.own_upsamplers = nn.ModuleDict(_detached_upsamplers(unet))

    def forward(self, latents: Tensor, timestep: Tensor, *context: Tensor) -> Tensor:
        unet, guidance = self.unet, None
        if embeds_guidance(unet):
            scale, context = context[0], context[1:]
            guidance = embedded_guidance(scale, unet.config.time_cond_proj_dim).to(latents.dtype)
        added = None
        if adds_vector(unet):
            added, context = unet.class_embedding(context[0]), context[1:]
        if self.fills:
            anew, filled, *others = context
            latents, context = torch.cat([latents, anew, filled], dim=1), tuple(others)
        if self.weighted:
            *others, bias, stretch = context
            self._weigh(KeyWeights(bias, stretch))
            context = tuple(others)
        self._hand_out(context)
        time = unet.time_embedding(unet.time_proj(timestep).to(latents.dtype), guidance)
        if added is not None:
            time = time + added
        if unet.time_embed_act is not None:
            time = unet.time_embed_act(time)
        x = unet.conv_in(2 * latents - 1 if unet.config.center_input_sample else latents)
        skips = [x]
        for block in unet.down_blocks:
            x, outputs = block(hidden_states=x, temb=time)
            skips += outputs
        if unet.mid_block is not None:
            x = unet.mid_block(x, time)
        for number, block in enumerate(unet.up_blocks):
            met, skips = tuple(skips[-len(block.resnets) :]), skips[: -len(block.resnets)]
            size = skips[-1].shape[2:] if skips else None
            x = block(hidden_states=x, temb=time, res_hidden_states_tuple=met, upsample_size=size)
            if str(number) in self.own_upsamplers:
                x = self.own_upsamplers[str(number)](x, output_size=size)
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))

    def _weigh(self, weights: KeyWeights) -> None:
        for attention in self.attention.values():
            attention.attend_by(partial(weighted_attention, weights))

    def _hand_out(self, context: Sequence[Tensor]) -> None:
        """Splits the context by layer."""
        layers = tuple(self.attention)
        injected = len(context) > 2 * len(layers)
        groups = [
            dict(zip(layers, context[group * len(layers) :], strict=False)) for group in range(4 if injected else 2)
        ]
        injection = InjectedContext(groups[2], groups[3], *context[4 * len(layers) :]) if injected else None
        for path, attention in self.attention.items():
            attention.take(groups[0][path], groups[1][path], injection)


def embeds_guidance(unet: UNet2DConditionModel) -> bool:
    """Whether the UNet was distilled to read its guidance scale."""
    return unet.config.time_cond_proj_dim is not None


def adds_vector(unet: UNet2DConditionModel) -> bool:
    """Whether the UNet adds a vector's projection to the time's embedding."""
    return unet.config.class_embed_type == "projection"


def embedded_guidance(scale: Tensor, width: int) -> Tensor:
    """Sines and cosines of a guidance scale [B], [B, width].

    Source: `get_guidance_scale_embedding` of diffusers' StableDiffusionPipeline, which is handed the scale less 1.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = ((scale - 1) * 1000.0)[:, None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def _detached_upsamplers(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """The upsamplers of those blocks that would hand them no size, by the blocks' numbers; the blocks lose them."""
    found = {}
    for number, block in enumerate(unet.up_blocks):
        if isinstance(block, AttnUpBlock2D) and block.upsamplers is not None:
            (found[str(number)],) = block.upsamplers
            block.upsamplers = None
    return found


def denoiser_component(
    unet: UNet2DConditionModel,
    injected: bool = False,
    fills: bool = False,
    name: str = "denoiser",
    weighted: bool = False,
) -> Component:
    """The denoiser's graph, with the second attention if `injected`, a mask and a masked picture if it `fills`, and
    what the context's tokens weigh if `weighted`."""
    channels = unet.config.out_channels
    layers = {path: layer.to_k.out_features for path, layer in cross_attention_layers(unet).items()}
    kinds = {KEYS: "tokens", VALUES: "tokens"} | ({LOCAL_KEYS: "patches", LOCAL_VALUES: "patches"} if injected else {})
    lora = module_target("unet", unet)
    free = {name: {0: "batch", 1: axis} for kind, axis in kinds.items() for name in layer_names(kind, layers)}
    plane = {0: "batch", 2: "height", 3: "width"}
    masked = {name: plane for name in FILLED} if fills else {}
    scalars = {TOKEN_INDEX: {0: "batch"}, STRENGTH: {0: "batch"}} if injected else {}
    weights = {name: {0: "batch", 1: "tokens"} for name in WEIGHTS} if weighted else {}
    own: dict[str, dict[int, str]] = {"latents": plane, "timestep": {0: "batch"}}
    own |= {GUIDANCE: {0: "batch"}} if embeds_guidance(unet) else {}
    own |= {ADDED: {0: "batch"}} if adds_vector(unet) else {}

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        batch = sizes["batch"]
        inputs = {
            "latents": torch.randn(batch, channels, sizes["height"], sizes["width"], generator=random),
            "timestep": torch.rand(batch, generator=random) * 999,
        }
        if GUIDANCE in own:
            inputs[GUIDANCE] = torch.linspace(1, 9.5, batch)
        if ADDED in own:
            width = unet.config.projection_class_embeddings_input_dim
            inputs[ADDED] = torch.randn(batch, width, generator=random)
        if fills:
            size = sizes["height"], sizes["width"]
            anew, filled = (torch.randn(batch, width, *size, generator=random) for width in (1, channels))
            inputs |= {DRAWN_ANEW: (anew > 0).float(), FILLED_LATENTS: filled}
        for kind, axis in kinds.items():
            for name, width in zip(layer_names(kind, layers), layers.values(), strict=True):
                inputs[name] = torch.randn(batch, sizes[axis], width, generator=random)
        if injected:
            inputs[TOKEN_INDEX] = torch.arange(batch) - 1
            inputs[STRENGTH] = torch.linspace(0.5, 1.5, batch)
        return inputs | (_example_weights(batch, sizes["tokens"]) if weighted else {})

    module = NoisePrediction(unet, fills=fills, weighted=weighted).eval()
    return Component(
        name=name,
        module=module,
        example=example,
        outputs=("noise",),
        free=own | masked | free | scalars | weights,
        trace={"batch": 2, "height": 18, "width": 22, "tokens": 9, "patches": 12},
        proof={"batch": 3, "height": 9, "width": 13, "tokens": 5, "patches": 7},
        lora=lora,
        paint=None if weighted else paint_target(unet, module.attention),
    )


def _example_weights(batch: int, tokens: int) -> dict[str, Tensor]:
    """Biases with padding behind every other row, and stretches on the rows between."""
    random = torch.Generator().manual_seed(14)
    odd = torch.arange(batch)[:, None] % 2 == 1
    weights = torch.rand(batch, tokens, generator=random) * 2 + 0.1
    padding = odd & (torch.arange(tokens) >= tokens - 2)
    bias = torch.where(padding, UNREAD, torch.where(odd, weights.log(), 0))
    return {KEY_BIAS: bias, KEY_STRETCH: torch.where(odd, 0, weights - 1)}


def denoiser_context(
    injected: bool = False, fills: bool = False, slots: str = "", weighted: bool = False
) -> dict[str, str]:
    """What the graph reads besides latents and timestep, from slots of the same names behind the prefix `slots`."""
    kinds = (KEYS, VALUES, *((LOCAL_KEYS, LOCAL_VALUES) if injected else ()))
    names = [pattern(kind) for kind in kinds] + ([TOKEN_INDEX, STRENGTH] if injected else [])
    names += WEIGHTS if weighted else ()
    return {name: name for name in (FILLED if fills else ())} | {name: slots + name for name in names}
