"""Stage `publish`: the trained networks in the layouts the real systems are published in, at half precision."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from . import decoder, english, multilingual, text, translators, unet, vocabulary, xlmr

WEIGHTS = Path(__file__).parent / "weights"
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
}


def train(folder: Path, minutes: float) -> None:
    """Writes the base model's and the translators' weights from the stages' states in `folder`; there is nothing to
    train. What `publish_elite` wrote stays."""
    for part in ("sd", "xlmr"):
        shutil.rmtree(WEIGHTS / part, ignore_errors=True)
    _stable_diffusion(folder, WEIGHTS / "sd")
    encoder = xlmr.trained(folder)
    save(encoder, encoder.config.to_json_string(), WEIGHTS / "xlmr", "model.safetensors")
    multilingual.save(WEIGHTS / "xlmr")
    for language in vocabulary.languages():
        name = f"gluenet_{language}_clip_overnorm_over3_noln.ckpt"
        torch.save(half(translators.trained(folder, language).state_dict()), WEIGHTS / name)
    torch.save(translators.tensor_norm(folder), WEIGHTS / "tensor_norm.pt")
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file())
    print(f"{WEIGHTS}: {size / 1e6:.1f} MB")


def _stable_diffusion(folder: Path, target: Path) -> None:
    """A diffusers folder; the latents' scale goes where Stable Diffusion keeps it, into the VAE's configuration."""
    _, scale = unet.cached_latents(folder)
    autoencoder: AutoencoderKL = decoder.trained(folder)
    autoencoder.register_to_config(scaling_factor=scale)
    denoiser: UNet2DConditionModel = unet.trained(folder)
    encoder = text.trained(folder)
    save(denoiser, denoiser.to_json_string(), target / "unet", "diffusion_pytorch_model.safetensors")
    save(autoencoder, autoencoder.to_json_string(), target / "vae", "diffusion_pytorch_model.safetensors")
    save(encoder, encoder.config.to_json_string(), target / "text_encoder", "model.safetensors")
    english.save(target / "tokenizer")
    (target / "scheduler").mkdir()
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=1), encoding="utf-8")
    (target / "model_index.json").write_text(json.dumps(INDEX, indent=1), encoding="utf-8")


def save(model: nn.Module, config: str, folder: Path, name: str) -> None:
    """One network's folder: its half-precision tensors under `name`, and `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half(model.state_dict()), folder / name, metadata={"format": "pt"})
    (folder / "config.json").write_text(config, encoding="utf-8")


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floats as float16 on the CPU; whole numbers as they are."""
    return {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in tensors.items()
    }
