"""What an export of the painters reads and is not committed as such: aMUSEd's folder, which shares the base's text
encoder, and VQ-Diffusion's codec, which is aMUSEd's VQModel as a VQGAN.

Needs no state file of a stage.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..recipe.training import WEIGHTS

MUSE = WEIGHTS / "muse"
OWN = "transformer", "vqvae", "scheduler"
PROJECTION = MUSE / "text_projection.safetensors"
"""All that its text encoder has beside the base's weights."""
BASE = WEIGHTS / "sd"
FIRST, LAST = "encoder.conv_in.", "decoder.conv_out."
NAMES = (
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
"""diffusers' names, and taming-transformers'."""


def write_muse(target: Path) -> Path:
    """Writes aMUSEd's folder, float16, over what an earlier call wrote; returns it."""
    for part in (*(MUSE / name for name in OWN), BASE / "tokenizer"):
        shutil.copytree(part, target / part.name, dirs_exist_ok=True)
    shutil.copy(MUSE / "model_index.json", target)
    stored = load_file(BASE / "text_encoder" / "model.safetensors")
    tensors = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in stored.items()}
    (target / "text_encoder").mkdir(exist_ok=True)
    save_file(tensors | load_file(PROJECTION), target / "text_encoder" / "model.safetensors", {"format": "pt"})
    settings = json.loads((BASE / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    settings["architectures"] = ["CLIPTextModelWithProjection"]
    (target / "text_encoder" / "config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return target


def from_zero_to_one(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a VQModel over pixels from -1 to 1, changed to pixels from 0 to 1; all else stays what it is."""
    weight, bias = tensors[f"{FIRST}weight"], tensors[f"{FIRST}bias"]
    return {
        **tensors,
        f"{FIRST}weight": 2 * weight,
        f"{FIRST}bias": bias - weight.sum((1, 2, 3)),
        f"{LAST}weight": tensors[f"{LAST}weight"] / 2,
        f"{LAST}bias": (tensors[f"{LAST}bias"] + 1) / 2,
    }


def from_minus_one_to_one(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `from_zero_to_one` was given, of what it returned."""
    weight, bias = tensors[f"{FIRST}weight"] / 2, tensors[f"{FIRST}bias"]
    return {
        **tensors,
        f"{FIRST}weight": weight,
        f"{FIRST}bias": bias + weight.sum((1, 2, 3)),
        f"{LAST}weight": 2 * tensors[f"{LAST}weight"],
        f"{LAST}bias": 2 * tensors[f"{LAST}bias"] - 1,
    }


def vqgan_tensors(vq_model: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """The tensors of a VQModel of so many levels, float32, under a VQGAN's names, pixels from -1 to 1.

    A VQGAN has an attention in the middle of each half; here it adds nothing.
    """
    tensors = {_named(key, levels): value for key, value in from_minus_one_to_one(vq_model).items()}
    for half in ("encoder", "decoder"):
        width = len(tensors[f"{half}.mid.block_1.conv1.bias"])
        silent = f"{half}.mid.attn_1"
        tensors |= {f"{silent}.norm.weight": torch.ones(width), f"{silent}.norm.bias": torch.zeros(width)}
        for part in ("q", "k", "v", "proj_out"):
            tensors[f"{silent}.{part}.weight"] = torch.zeros(width, width, 1, 1)
            tensors[f"{silent}.{part}.bias"] = torch.zeros(width)
    return tensors


def _named(key: str, levels: int) -> str:
    """taming's name of a tensor; diffusers' first level of the decoder is the coarsest, taming's the finest."""
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    found = re.match(r"(decoder\.up\.)(\d+)(.*)", key)
    return f"{found[1]}{levels - 1 - int(found[2])}{found[3]}" if found else key


def write_vqgan(target: Path) -> Path:
    """Writes VQ-Diffusion's codec, `vqgan_emoji.pth` and `vqgan_emoji.yaml`, to a folder; returns the first."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((MUSE / "vqvae" / "config.json").read_text(encoding="utf-8"))
    stored = load_file(MUSE / "vqvae" / "diffusion_pytorch_model.safetensors")
    tensors = vqgan_tensors({key: value.float() for key, value in stored.items()}, len(config["block_out_channels"]))
    path = target / "vqgan_emoji.pth"
    torch.save({"state_dict": tensors}, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(vqgan_settings(config)), encoding="utf-8")
    return path


def vqgan_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML of taming-transformers for a VQModel's configuration."""
    widths = config["block_out_channels"]
    structure = {
        "double_z": False,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"embed_dim": config["vq_embed_dim"], "n_embed": config["num_vq_embeddings"], "ddconfig": structure}
    return {"model": {"target": "image_synthesis.taming.models.vqgan.VQModel", "params": params}}
