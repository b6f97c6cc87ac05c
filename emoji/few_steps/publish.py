"""The stage `publish_few_steps`: the trained LoRA and tiny autoencoder in the layouts that such things are published
in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from ..embedded import LORA, TINY_VAE
from ..recipe.publish import half, save
from ..recipe.training import WEIGHTS
from . import lora_stage, tiny_vae_stage

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def publish_few_steps(folder: Path, minutes: float) -> None:
    """Writes LORA and TINY_VAE anew from the stages' states in `folder`; there is nothing to train."""
    students = [get_peft_model_state_dict(unet) for unet in lora_stage.trained(folder)]
    LORA.parent.mkdir(parents=True, exist_ok=True)
    mean = {f"unet.{name}": tensor for name, tensor in mean_lora(students).items()}
    save_file(half(mean), LORA, metadata={"format": "pt"})
    tiny = tiny_vae_stage.trained(folder)
    save(tiny, tiny.to_json_string(), TINY_VAE, "diffusion_pytorch_model.safetensors")
    for path in (LORA, TINY_VAE / "diffusion_pytorch_model.safetensors"):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def mean_lora(students: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The factors whose product is nearest to the mean of the students' changes, of each layer, at the students' rank.

    Averaged models do what each does, and better than either outside what they saw (Wortsman et al. 2022, arXiv
    2203.05482).
    """
    found = {}
    for name, down in students[0].items():
        if not name.endswith(DOWN):
            continue
        layer = name.removesuffix(DOWN)
        up = students[0][layer + UP]
        products = [each[layer + UP].double().flatten(1) @ each[name].double().flatten(1) for each in students]
        left, sizes, right = torch.linalg.svd(torch.stack(products).mean(0), full_matrices=False)
        rank = len(down)
        root = sizes[:rank].sqrt()
        found[layer + UP] = (left[:, :rank] * root).float().reshape(up.shape)
        found[name] = (root[:, None] * right[:rank]).float().reshape(down.shape)
    return found


def write_fused(folder: Path) -> Path:
    """The base with the LoRA in its weights and the scheduler that draws it, as diffusers saves both, in `folder`."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "sd", safety_checker=None)
    pipeline.load_lora_weights(LORA.parent, weight_name=LORA.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(folder)
    return folder
