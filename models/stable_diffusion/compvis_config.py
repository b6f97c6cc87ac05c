"""A CompVis checkpoint's configuration: Stable Diffusion v1's, the authors' YAML, or the same settings as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from ..readers.weights_folder import read_json
from .drawable import SAMPLE_SIZE
from .scheduler import compvis_scheduler

SD_V1: dict[str, Any] = {
    "unet": {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 4, 4],
        "num_heads": 8,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": 768,
    },
    "vae": {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True,
            "z_channels": 4,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 128,
            "ch_mult": [1, 2, 4, 4],
            "num_res_blocks": 2,
            "attn_resolutions": [],
        },
    },
    "scale_factor": 0.18215,
    "linear_start": 0.00085,
    "linear_end": 0.012,
    "timesteps": 1000,
}
PLAIN = ("scale_factor", "linear_start", "linear_end", "timesteps", "parameterization")
V1_SOURCE = "Stable Diffusion v1's configuration"
CLIP_VIT_L: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
OPEN_CLIP_VIT_H: dict[str, Any] = {
    **CLIP_VIT_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
"""The text encoder of Stable Diffusion 2, which reads its last layer but one."""
SIZE_V = 96
"""Latents on a side of Stable Diffusion 2 with v-prediction, which is trained on 768 pixels."""


@dataclass(frozen=True, slots=True)
class CompVisConfig:
    """The arguments of diffusers' UNet2DConditionModel and AutoencoderKL and of CLIPTextConfig, and the settings of the
    scheduler."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]
    source: str


def read_compvis_config(path: Path | None) -> CompVisConfig:
    """Stable Diffusion v1's configuration, or the one at `path`; CheckpointError lists every setting it cannot mean.

    JSON: `{"unet": ..., "vae": ..., "scale_factor", "linear_start", "linear_end", "timesteps"}`, and optionally
    `"text_encoder"`, the settings of the layers that are read, in CLIP's terms, `"sample_size"`, the latents on a side,
    and `"parameterization"`, "eps" or "v". YAML: the authors' file of version 1 or 2, whose `model.params` says the
    same.
    """
    if path is None:
        return parse_compvis_config(SD_V1, V1_SOURCE)
    if path.suffix in (".yaml", ".yml"):
        return parse_compvis_config(_from_yaml(path), str(path))
    return parse_compvis_config(read_json(path), str(path))


def _from_yaml(path: Path) -> dict[str, Any]:
    """The authors' file in the JSON form, after a check that it describes a latent diffusion model of these classes."""
    content = given_yaml(path)
    top = ConfigReader(content, str(path))
    params = top.section("model").section("params")
    params.skip("parameterization")
    params.only("beta_schedule", "linear", absent="linear")
    params.only("conditioning_key", "crossattn", absent="crossattn")
    params.only("use_ema", False, absent=True)
    params.only("scale_by_std", False, absent=False)
    for key, name in (("unet_config", "UNetModel"), ("first_stage_config", "AutoencoderKL")):
        target = str(params.section(key).raw("target"))
        if target.rpartition(".")[2] != name:
            top.problems.append(
                f"{path}: expected {key} of class {name}, got {target}; fix: give Stable Diffusion v1's"
            )
    text = _text_settings(params.section("cond_stage_config")) if "cond_stage_config" in params else {}
    if top.problems:
        raise CheckpointError(*top.problems)
    model = content["model"]["params"]
    plain = {key: model[key] for key in PLAIN if key in model}
    parts = {"unet": model["unet_config"].get("params"), "vae": model["first_stage_config"].get("params")}
    size = {"sample_size": SIZE_V} if text and model.get("parameterization") == "v" else {}
    return {**plain, **parts, **size, "text_encoder": text}


def _text_settings(stage: ConfigReader) -> dict[str, Any]:
    """The settings of the text encoder, as far as they are not those of version 1; another kind of encoder has none."""
    kind = str(stage.raw("target")).rpartition(".")[2]
    params = ConfigReader(stage.mapping("params"), "cond_stage_config, params", stage.problems)
    if kind == "FrozenCLIPEmbedder":
        params.only("layer", "last", absent="last")
        return {}
    if kind != "FrozenOpenCLIPEmbedder":
        return {}
    params.only("arch", "ViT-H-14", absent="ViT-H-14")
    layer = params.only("layer", "last", "penultimate", absent="last")
    return {**OPEN_CLIP_VIT_H, "num_hidden_layers": OPEN_CLIP_VIT_H["num_hidden_layers"] - (layer == "penultimate")}


def parse_compvis_config(content: dict[str, Any], source: str) -> CompVisConfig:
    """The JSON form that `read_compvis_config` describes as a CompVisConfig; `source` names it in messages.

    Raises CheckpointError that lists every setting that is absent, of the wrong type, unknown or another model's.
    """
    settings = ConfigReader(content, source)
    scheduler = compvis_scheduler(
        settings.count("timesteps"),
        settings.number("linear_start"),
        settings.number("linear_end"),
        settings.only("parameterization", "eps", "v", absent="eps"),
    )
    size = settings.count("sample_size") if "sample_size" in settings else SAMPLE_SIZE
    config = CompVisConfig(
        unet={**_unet(settings.section("unet")), "sample_size": size},
        vae={**_vae(settings.section("vae")), "scaling_factor": settings.number("scale_factor")},
        text_encoder={**CLIP_VIT_L, **settings.mapping("text_encoder")},
        scheduler=scheduler,
        source=source,
    )
    settings.close()
    if settings.problems:
        raise CheckpointError(*settings.problems)
    return config


def _unet(unet: ConfigReader) -> dict[str, Any]:
    unet.only("use_spatial_transformer", True, absent=False)
    unet.only("dims", 2, absent=2)
    unet.only("conv_resample", True, absent=True)
    unet.only("num_heads_upsample", -1, absent=-1)
    for key in ("use_scale_shift_norm", "resblock_updown"):
        unet.only(key, False, absent=False)
    for key in ("num_classes", "n_embed"):
        unet.only(key, None, absent=None)
    unet.skip("image_size", "dropout", "use_checkpoint", "use_fp16", "legacy", "use_new_attention_order")
    channels = [unet.count("model_channels") * mult for mult in unet.counts("channel_mult")]
    resolutions = unet.counts("attention_resolutions")
    attends = [2**level in resolutions for level in range(len(channels))]
    settings = {
        "in_channels": unet.count("in_channels"),
        "out_channels": unet.count("out_channels"),
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)],
        "layers_per_block": unet.count("num_res_blocks"),
        "cross_attention_dim": unet.count("context_dim"),
        "transformer_layers_per_block": unet.count("transformer_depth") if "transformer_depth" in unet else 1,
        "use_linear_projection": unet.only("use_linear_in_transformer", False, True, absent=False),
        "attention_head_dim": _heads(unet, channels),
    }
    unet.close()
    return settings


def _heads(unet: ConfigReader, channels: list[int]) -> list[int]:
    """How many heads each level has, which diffusers' UNet calls attention_head_dim."""
    if unet.raw("num_head_channels") in (None, -1):
        heads = [unet.count("num_heads")] * len(channels)
    else:
        heads = [each // unet.count("num_head_channels") for each in channels]
        unet.skip("num_heads")
    return heads


def _vae(vae: ConfigReader) -> dict[str, Any]:
    vae.skip("monitor", "lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels")
    inner = vae.section("ddconfig")
    inner.only("double_z", True, absent=True)
    inner.only("attn_type", "vanilla", "vanilla-xformers", absent="vanilla")
    inner.only("resamp_with_conv", True, absent=True)
    inner.only("attn_resolutions", [], absent=None)
    for key in ("use_linear_attn", "tanh_out", "give_pre_end"):
        inner.only(key, False, absent=False)
    inner.skip("resolution", "dropout")
    channels = [inner.count("ch") * mult for mult in inner.counts("ch_mult")]
    latent = inner.count("z_channels")
    vae.only("embed_dim", latent, absent=None)
    settings = {
        "in_channels": inner.count("in_channels"),
        "out_channels": inner.count("out_ch"),
        "latent_channels": latent,
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "layers_per_block": inner.count("num_res_blocks"),
    }
    inner.close()
    vae.close()
    return settings
