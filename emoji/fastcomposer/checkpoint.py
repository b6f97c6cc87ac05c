"""The embedded FastComposer in its authors' layout: the base's committed weights and what training changed of them.

Needs no font and no state file of a stage.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..recipe.training import WEIGHTS

CHANGED = WEIGHTS / "fastcomposer" / "changed.safetensors"
PARTS = {
    "text_encoder.": WEIGHTS / "sd" / "text_encoder" / "model.safetensors",
    "vae.": WEIGHTS / "sd" / "vae" / "diffusion_pytorch_model.safetensors",
    "unet.": WEIGHTS / "sd" / "unet" / "diffusion_pytorch_model.safetensors",
    "image_encoder.vision_model.": WEIGHTS / "elite" / "image_encoder" / "model.safetensors",
}
"""Where the base's tensors are by what the checkpoint's names begin with."""
ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""The VAE's attention by the names that FastComposer's checkpoint has for it."""


def write_checkpoint(target: Path) -> Path:
    """Writes FastComposer's `pytorch_model.bin`, float16, and `encoder/config.json` to a folder; returns the file."""
    (target / "encoder").mkdir(parents=True, exist_ok=True)
    settings = json.loads((PARTS["image_encoder.vision_model."].parent / "config.json").read_text(encoding="utf-8"))
    changed = load_file(CHANGED)
    settings["projection_dim"] = len(changed["image_encoder.visual_projection.weight"])
    (target / "encoder" / "config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    path = target / "pytorch_model.bin"
    torch.save(base_tensors() | changed, path)
    return path


def base_tensors() -> dict[str, Tensor]:
    """What the checkpoint holds of the base, under the checkpoint's names."""
    tensors = {prefix + key: value for prefix, path in PARTS.items() for key, value in load_file(path).items()}
    return {_historic(name): value for name, value in tensors.items()}


def changed_tensors(trained: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, by the checkpoint's names, that the base does not have just so."""
    return {name: value for name, value in trained.items() if name not in base or not torch.equal(value, base[name])}


def _historic(name: str) -> str:
    found = re.fullmatch(r"(vae\..*\.attentions\.\d+\.)(to_[qkv]|to_out\.0)(\..*)", name)
    return f"{found[1]}{ATTENTION[found[2]]}{found[3]}" if found else name
