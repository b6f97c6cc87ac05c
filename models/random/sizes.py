"""The sizes of the systems that are made with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..sound.audioclip import AudioClipSettings
from ..stable_diffusion.compvis_config import CLIP_VIT_L, SD_V1

Sizes = TypeVar("Sizes")


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of one system: Stable Diffusion in CompVis' terms, the encoders in transformers', and the latents'.

    `elite_vision` and `ip_adapter_vision` are the vision towers that ELITE and IP-Adapter were trained on; FastComposer
    has ELITE's, with a projection to the text encoder's width. `audio` are the settings of AudioCLIP's audio branch,
    whose features GlueNet's sound translator reads as `sound_tokens` tokens.
    """

    stable_diffusion: dict[str, Any]
    text_encoder: dict[str, Any]
    xlmr: dict[str, Any]
    elite_vision: dict[str, Any]
    ip_adapter_vision: dict[str, Any]
    audio: AudioClipSettings
    sound_tokens: int
    latent_size: int
    tokens: int = 77


SIZES = {
    "sd15": ModelSizes(
        stable_diffusion=SD_V1,
        text_encoder=CLIP_VIT_L,
        xlmr={
            "vocab_size": 250002,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "max_position_embeddings": 514,
        },
        elite_vision={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 768,
        },
        ip_adapter_vision={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 1024,
            "hidden_act": "gelu",
        },
        audio=AudioClipSettings(),
        sound_tokens=16,
        latent_size=64,
    ),
    "tiny": ModelSizes(
        stable_diffusion={
            **SD_V1,
            "unet": {
                **SD_V1["unet"],
                "model_channels": 32,
                "attention_resolutions": [1],
                "num_res_blocks": 1,
                "channel_mult": [1, 2],
                "num_heads": 4,
                "context_dim": 48,
            },
            "vae": {
                **SD_V1["vae"],
                "ddconfig": {**SD_V1["vae"]["ddconfig"], "ch": 32, "ch_mult": [1, 1, 1, 2], "num_res_blocks": 1},
            },
        },
        text_encoder={
            **CLIP_VIT_L,
            "vocab_size": 514,
            "hidden_size": 48,
            "intermediate_size": 96,
            "projection_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "bos_token_id": 512,
            "eos_token_id": 513,
        },
        xlmr={
            "vocab_size": 260,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 130,
        },
        elite_vision={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 17,
            "num_attention_heads": 4,
            "image_size": 42,
            "patch_size": 6,
            "projection_dim": 24,
        },
        ip_adapter_vision={
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "image_size": 35,
            "patch_size": 7,
            "projection_dim": 20,
            "hidden_act": "gelu",
        },
        audio=AudioClipSettings(
            rate=8000,
            frames=6000,
            n_fft=128,
            hop=67,
            window=101,
            width=8,
            layers=(1, 1, 1, 1),
            groups=4,
            group_width=2,
            features=24,
        ),
        sound_tokens=4,
        latent_size=16,
    ),
}
"""`sd15` is Stable Diffusion v1 with CLIP ViT-L/14, XLM-R-large and GlueNet 77 x 1024 -> 77 x 768; AudioCLIP and
GlueNet 16 x 64 -> 77 x 768; ELITE and FastComposer on CLIP ViT-L/14, IP-Adapter on OpenCLIP ViT-H/14."""

TINY_VISION = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 7,
    "image_size": 28,
}
"""The vision tower of tiny cascades, in transformers' terms, but for its projection."""


def model_sizes(name: str) -> ModelSizes:
    """The sizes called `sd15` or `tiny`. Raises CheckpointError for another name."""
    return chosen_sizes(SIZES, name)


def chosen_sizes(sizes: Mapping[str, Sizes], name: str) -> Sizes:
    """The entry of that name. Raises CheckpointError, which names all, for another."""
    if name not in sizes:
        raise CheckpointError(f"random weights: expected {' or '.join(sizes)}, got {name!r}; fix: choose one of them")
    return sizes[name]
