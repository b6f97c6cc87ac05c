"""Whole systems with random weights, at full size for measuring and tiny for tests."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from torch import Tensor

from .allocation import Module, built
from .byte_tokenizer import byte_clip_json, byte_xlmr_json
from .clip_tokenizer import END
from .compvis_config import CLIP_VIT_L, SD_V1, compvis_config
from .errors import CheckpointError
from .gluenet import GlueNetConditioner, TranslatorNoLN
from .stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from transformers import XLMRobertaModel

LANGUAGES = ("French", "Chinese")


@dataclass(frozen=True, slots=True)
class Variant:
    """Sizes of one system: Stable Diffusion in CompVis' terms, CLIP and XLM-R in transformers', and the latents'."""

    stable_diffusion: dict[str, Any]
    text_encoder: dict[str, Any]
    xlmr: dict[str, Any]
    latent_size: int
    tokens: int = 77


VARIANTS = {
    "sd15": Variant(
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
        latent_size=64,
    ),
    "tiny": Variant(
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
        latent_size=16,
    ),
}
"""`sd15` is Stable Diffusion v1 with CLIP ViT-L/14, XLM-R-large and GlueNet 77 x 1024 -> 77 x 768."""


def random_stable_diffusion(variant: str = "sd15", seed: int = 0) -> StableDiffusion:
    """All parts with random weights, each parameter drawn from its own seed, and a byte tokenizer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = _variant(variant)
    config = compvis_config(sizes.stable_diffusion, variant)
    unet = built(lambda: UNet2DConditionModel(**{**config.unet, "sample_size": sizes.latent_size}), variant)
    return StableDiffusion(
        unet=_drawn(unet, seed),
        vae=_drawn(built(lambda: AutoencoderKL(**config.vae), variant), seed),
        text_encoder=_drawn(built(lambda: CLIPTextModel(CLIPTextConfig(**sizes.text_encoder)), variant), seed),
        tokenizer_json=byte_clip_json(sizes.text_encoder["vocab_size"]),
        pad_token=END,
        scaling_factor=config.vae["scaling_factor"],
        schedule=config.schedule,
        layout="diffusers",
    )


def random_gluegen_text(
    variant: str = "sd15", seed: int = 0
) -> tuple["XLMRobertaModel", str, dict[str, GlueNetConditioner]]:
    """GlueGen's text path: the encoder, its byte tokenizer's JSON, and a conditioner for each of two languages."""
    conditioners = {
        language: GlueNetConditioner(random_translator(variant, seed + number), random_tensor_norm(variant))
        for number, language in enumerate(LANGUAGES)
    }
    return random_xlmr(variant, seed), byte_xlmr_json(_variant(variant).xlmr["vocab_size"]), conditioners


def random_xlmr(variant: str = "sd15", seed: int = 0) -> "XLMRobertaModel":
    """XLM-R without its pooler; for `sd15` XLM-R-large."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    settings = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, **_variant(variant).xlmr}
    return _drawn(built(lambda: XLMRobertaModel(XLMRobertaConfig(**settings), add_pooling_layer=False), variant), seed)


def random_translator(variant: str = "sd15", seed: int = 0) -> TranslatorNoLN:
    """A GlueNet translator from the variant's XLM-R to its UNet's context; for `sd15` (77, 1024, 768)."""
    sizes = _variant(variant)
    width, width_out = sizes.xlmr["hidden_size"], sizes.stable_diffusion["unet"]["context_dim"]
    translator = _drawn(built(lambda: TranslatorNoLN(sizes.tokens, width, width_out), variant), seed)
    for value in translator.tail.net_tok[-1].parameters():
        value.div_(64)  # a tail without LayerNorms would otherwise leave CLIP's scale far behind
    return translator


def random_tensor_norm(variant: str = "sd15") -> Tensor:
    """Norms like those of CLIP's features, [tokens, 1]: the first token's stands out, the others are alike."""
    norm = torch.full((_variant(variant).tokens, 1), 28.3)
    norm[0] = 43.82
    return norm


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise CheckpointError(
            f"random weights: expected {' or '.join(VARIANTS)}, got {name!r}; fix: choose one of them"
        )
    return VARIANTS[name]


@torch.no_grad()
def _drawn(module: Module, seed: int) -> Module:
    """Fills every parameter in place: no copy is made, and no output layer is left at zero."""
    for name, value in module.named_parameters():
        generator = torch.Generator().manual_seed(crc32(f"{seed} {name}".encode()))
        if value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        else:
            value.normal_(1 if name.endswith("weight") else 0, 0.1, generator=generator)
    return module
