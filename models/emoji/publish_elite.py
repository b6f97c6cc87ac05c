"""Stage `publish_elite`: the vision tower and both mappers in the layouts that ELITE's have, at half precision."""

from pathlib import Path

import torch

from ..elite_checkpoint import EliteCheckpoint
from . import clip, elite_global, elite_local
from .publish import WEIGHTS, half, save

TARGET = WEIGHTS / "elite"


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/weights/elite` anew from the stages' states in `folder`; there is nothing to train."""
    tower = clip.vision(clip.trained(folder))
    save(tower, tower.config.to_json_string(), TARGET / "image_encoder", "model.safetensors")
    write(elite_global.trained(folder), TARGET / "global_mapper.pt")
    write(elite_local.trained(folder), TARGET / "local_mapper.pt")
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {size / 1e6:.1f} MB")


def write(made: EliteCheckpoint, path: Path) -> None:
    """One plain state dict: the mapper's tensors, then keys and values under their layers' names."""
    torch.save(half({**made.mapper.state_dict(), **made.layers.state_dict()}), path)
