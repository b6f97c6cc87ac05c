"""The stages `publish...`: the trained networks in the layouts that the real systems are published in,
at half precision."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from x2i.models.subjects.elite import EliteCheckpoint

from ..elite import global_stage, local_stage
from ..fastcomposer import composer_stage
from ..fastcomposer.checkpoint import CHANGED, base_tensors, changed_tensors
from ..t5 import encoder_stage, translator_stage, words
from ..world import english, multilingual, vocabulary
from ..world.speech import DIALECTS, HELD_OUT_VOICES, RATE, name, say
from ..world.spoken import RECORDINGS
from ..world.vocabulary import picture_keys
from . import audio, clip, decoder, sound_translator, text, translators, unet, xlmr
from .training import WEIGHTS

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


def publish_base(folder: Path, minutes: float) -> None:
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


CLIP_TARGET = WEIGHTS / "clip"
TOWER = WEIGHTS / "elite" / "image_encoder"
VISION = "vision_model."


def publish_clip(folder: Path, minutes: float) -> None:
    """Writes `emoji/weights/clip` anew from the stage `clip`; there is nothing to train.

    It holds the text tower and both projections, in `CLIPModel`'s layout.
    """
    model = clip.trained(folder)
    CLIP_TARGET.mkdir(parents=True, exist_ok=True)
    rest = {name: value for name, value in model.state_dict().items() if not name.startswith(VISION)}
    save_file(half(rest), CLIP_TARGET / "model.safetensors", metadata={"format": "pt"})
    (CLIP_TARGET / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")


ELITE_TARGET = WEIGHTS / "elite"


def publish_elite(folder: Path, minutes: float) -> None:
    """Writes `emoji/weights/elite` anew from the stages' states in `folder`; there is nothing to train."""
    tower = clip.vision(clip.trained(folder))
    save(tower, tower.config.to_json_string(), ELITE_TARGET / "image_encoder", "model.safetensors")
    write_mapper(global_stage.trained(folder), ELITE_TARGET / "global_mapper.pt")
    write_mapper(local_stage.trained(folder), ELITE_TARGET / "local_mapper.pt")
    size = sum(path.stat().st_size for path in ELITE_TARGET.rglob("*") if path.is_file())
    print(f"{ELITE_TARGET}: {size / 1e6:.1f} MB")


def write_mapper(made: EliteCheckpoint, path: Path) -> None:
    """One plain state dict: the mapper's tensors, then keys and values under their layers' names."""
    torch.save(half({**made.mapper.state_dict(), **made.layers.state_dict()}), path)


def publish_fastcomposer(folder: Path, minutes: float) -> None:
    """Writes `emoji/weights/fastcomposer` anew from the stage's state in `folder`; there is nothing to train."""
    made = composer_stage.trained(folder)
    parts = {name: getattr(made, name) for name in ("image_encoder", "postfuse_module", "unet")}
    tensors = half({f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()})
    CHANGED.parent.mkdir(exist_ok=True)
    save_file(changed_tensors(tensors, base_tensors()), CHANGED, metadata={"format": "pt"})
    print(f"{CHANGED}: {CHANGED.stat().st_size / 1e6:.1f} MB")


T5_TARGET = WEIGHTS / "t5"


def publish_t5(folder: Path, minutes: float) -> None:
    """Writes `emoji/weights/t5` anew from the stages' states in `folder`; there is nothing to train.

    Beside the encoder's folder, as `T5EncoderModel` saves it, stands its translator.
    """
    encoder = encoder_stage.trained(folder)
    tensors = {key: value for key, value in encoder.state_dict().items() if key != "encoder.embed_tokens.weight"}
    T5_TARGET.mkdir(parents=True, exist_ok=True)
    save_file(half(tensors), T5_TARGET / "model.safetensors", metadata={"format": "pt"})
    (T5_TARGET / "config.json").write_text(encoder.config.to_json_string(), encoding="utf-8")
    words.save(T5_TARGET)
    translator = half(translator_stage.trained(folder).state_dict())
    torch.save(translator, T5_TARGET / "gluenet_T5_clip_overnorm_over3_noln.ckpt")
    size = sum(path.stat().st_size for path in T5_TARGET.iterdir())
    print(f"{T5_TARGET}: {size / 1e6:.1f} MB")


SOUND_TARGET = WEIGHTS / "sound"


def publish_sound(folder: Path, minutes: float) -> None:
    """Writes `emoji/weights/sound` anew from the stages' states in `folder`; there is nothing to train.

    The unconditional context is the empty prompt's by the base model's encoder, as rounded as that is published.
    """
    SOUND_TARGET.mkdir(parents=True, exist_ok=True)
    encoder = audio.trained(folder)
    tensors = encoder.state_dict()
    matrices = half({key: value for key, value in tensors.items() if value.ndim > 1})
    named = {f"audio.{key}": matrices.get(key, value.cpu().contiguous()) for key, value in tensors.items()}
    torch.save(named, SOUND_TARGET / "AudioCLIP.pt")
    (SOUND_TARGET / "AudioCLIP.json").write_text(encoder.settings.to_json(), encoding="utf-8")
    translator = sound_translator.trained(folder)
    torch.save(half(translator.state_dict()), SOUND_TARGET / "gluenet_sound2img_audioclip_words.ckpt")
    base = text.trained(folder).half().float()
    torch.save(text.context(base, [""]).cpu(), SOUND_TARGET / "null_cond_tensor.pt")
    size = sum(path.stat().st_size for path in SOUND_TARGET.iterdir())
    print(f"{SOUND_TARGET}: {size / 1e6:.1f} MB")


VOICES = 2
GAP = RATE // 20
COMPRESSION = 0.95
"""Of 1: about 18 kbit/s of Opus, 1 MB in all."""


def publish_spoken(folder: Path, minutes: float) -> None:
    """Writes `emoji/recordings` anew with espeak-ng; there is nothing to train."""
    RECORDINGS.mkdir(exist_ok=True)
    table = {language: record(language, voices_of(number)) for number, language in enumerate(DIALECTS)}
    (RECORDINGS / "words.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    size = sum(path.stat().st_size for path in RECORDINGS.iterdir())
    print(f"{RECORDINGS}: {size / 1e6:.1f} MB")


def voices_of(number: int) -> list[str]:
    """Another pair of the held-out voices for each language."""
    return [HELD_OUT_VOICES[(VOICES * number + each) % len(HELD_OUT_VOICES)] for each in range(VOICES)]


def record(language: str, voices: list[str]) -> dict[str, dict[str, list[int]]]:
    """One file of all words end to end with gaps; returns where each begins and ends, by voice and picture."""
    parts: list[np.ndarray] = []
    where: dict[str, dict[str, list[int]]] = {}
    position = 0
    for voice in voices:
        where[voice] = {}
        for picture, key in enumerate(picture_keys()):
            word = say(name(picture, language), f"{DIALECTS[language][0]}+{voice}")
            where[voice][key] = [position, position + len(word)]
            parts += [word, np.zeros(GAP, np.float32)]
            position += len(word) + GAP
    soundfile.write(
        RECORDINGS / f"{language}.ogg",
        np.concatenate(parts),
        RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=COMPRESSION,
    )
    return where
