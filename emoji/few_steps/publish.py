"""The stage `publish_few_steps`: the trained LoRA and tiny autoencoder in the layouts that such things are published
in."""

from pathlib import Path

from diffusers import LCMScheduler, StableDiffusionPipeline
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from ..embedded import LORA, TINY_VAE
from ..recipe.publish import half, save
from ..recipe.training import WEIGHTS
from . import lora_stage, tiny_vae_stage


def publish_few_steps(folder: Path, minutes: float) -> None:
    """Writes LORA and TINY_VAE anew from the stages' states in `folder`; there is nothing to train."""
    trained = get_peft_model_state_dict(lora_stage.trained(folder))
    LORA.parent.mkdir(parents=True, exist_ok=True)
    save_file(half({f"unet.{name}": tensor for name, tensor in trained.items()}), LORA, metadata={"format": "pt"})
    tiny = tiny_vae_stage.trained(folder)
    save(tiny, tiny.to_json_string(), TINY_VAE, "diffusion_pytorch_model.safetensors")
    for path in (LORA, TINY_VAE / "diffusion_pytorch_model.safetensors"):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def write_fused(folder: Path) -> Path:
    """The base with the LoRA in its weights and the scheduler that draws it, as diffusers saves both, in `folder`."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "sd", safety_checker=None)
    pipeline.load_lora_weights(LORA.parent, weight_name=LORA.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(folder)
    return folder
