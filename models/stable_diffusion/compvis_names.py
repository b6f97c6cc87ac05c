"""CompVis' names for the parameters of diffusers' UNet and VAE: module key -> checkpoint key."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model."
_UNET_FIXED = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_INNER = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def unet_names(unet: nn.Module, layers_per_block: int, attends: Iterable[bool]) -> dict[str, str]:
    """CompVis' name of each of UNet2DConditionModel's parameters.

    `attends` says for each level, finest first, whether it has attention.
    """
    levels = _unet_levels(layers_per_block, list(attends))
    return {key: UNET_PREFIX + _unet_name(key, levels) for key in unet.state_dict()}


def vae_names(vae: nn.Module, levels: int, prefix: str = VAE_PREFIX) -> dict[str, str]:
    """CompVis' name of each of AutoencoderKL's parameters, in `levels` resolutions, behind a prefix.

    The decoder's levels count the other way round in CompVis.
    """
    return {key: prefix + _vae_name(key, levels) for key in vae.state_dict()}


def linear_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's attention as linears [C, C], where CompVis has convolutions [C, C, 1, 1]."""
    convolution = re.compile(r".*\.mid\.attn_1\.(q|k|v|proj_out)\.weight")
    return {
        key: value[:, :, 0, 0] if convolution.fullmatch(key) and value.shape[2:] == (1, 1) else value
        for key, value in tensors.items()
    }


def _unet_levels(layers: int, attends: list[bool]) -> dict[str, str]:
    """Where CompVis counts on through all levels, diffusers counts within one: the module of every layer of a level."""
    modules = dict(_UNET_FIXED)
    for level in range(len(attends)):
        up_attends = attends[len(attends) - 1 - level]
        for layer in range(layers):
            modules[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{1 + level * (layers + 1) + layer}.0"
            modules[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{1 + level * (layers + 1) + layer}.1"
        modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
        for layer in range(layers + 1):
            modules[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{level * (layers + 1) + layer}.0"
            modules[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{level * (layers + 1) + layer}.1"
        last = f"output_blocks.{level * (layers + 1) + layers}"
        modules[f"up_blocks.{level}.upsamplers.0.conv"] = f"{last}.{2 if up_attends else 1}.conv"
    return modules


def _unet_name(key: str, modules: Mapping[str, str]) -> str:
    parts = key.split(".")
    cut = next(count for count in range(len(parts), 0, -1) if ".".join(parts[:count]) in modules)
    name, inner = modules[".".join(parts[:cut])], parts[cut:]
    if "resnets" in parts[:cut]:
        inner = [_UNET_RESNET[inner[0]], *inner[1:]]
    return ".".join([name, *inner])


def _vae_name(key: str, levels: int) -> str:
    for ours, theirs in _VAE_INNER.items():
        key = key.replace(f".{ours}.", f".{theirs}.")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1")
    key = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", key)
    key = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
    key = key.replace(".resnets.", ".block.")
    return key.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
