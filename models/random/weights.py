"""Whole systems with random weights, at full size for measuring and tiny for tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import torch
from torch import Tensor

from ..clip.published_tokenizer import PublishedTokenizer
from ..clip.tokenizer import END
from ..readers.loading import Module, build_module
from ..sound.audioclip import AudioClip
from ..stable_diffusion.base import StableDiffusion
from ..stable_diffusion.compvis_config import parse_compvis_config
from ..subjects.elite import Elite, EliteCheckpoint, GlobalMapper, LocalMapper
from ..subjects.fastcomposer import FastComposerCheckpoint, Postfuse
from ..subjects.ip_adapter import EmbedTokens
from ..subjects.ip_adapter_checkpoint import IpAdapter, IpAdapterCheckpoint
from ..text_encoders.prompt_encoder import PromptEncoder, xlmr_prompt_encoder
from ..translators.gluenet import GlueNetConditioner, TranslatorNoLN
from ..translators.gluenet_sound import SoundConditioner, TranslatorWithHead
from .byte_tokenizer import byte_clip_json, byte_xlmr_json
from .sizes import model_sizes

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionModelWithProjection, XLMRobertaModel


LANGUAGES = ("French", "Chinese")


def random_stable_diffusion(variant: str = "sd15", seed: int = 0) -> StableDiffusion:
    """All parts with random weights, in eval mode and float32, and a byte tokenizer.

    `variant` is `sd15` or `tiny`; every parameter is drawn from a seed of its own, made of `seed` and its name.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = model_sizes(variant)
    config = parse_compvis_config(sizes.stable_diffusion, variant)
    unet = build_module(lambda: UNet2DConditionModel(**{**config.unet, "sample_size": sizes.latent_size}), variant)
    return StableDiffusion(
        unet=draw_weights(unet, seed),
        vae=_random(lambda: AutoencoderKL(**config.vae), variant, seed),
        text_encoder=_random(lambda: CLIPTextModel(CLIPTextConfig(**sizes.text_encoder)), variant, seed),
        tokenizer=_byte_tokenizer(sizes.text_encoder["vocab_size"], sizes.text_encoder["max_position_embeddings"]),
        scaling_factor=config.vae["scaling_factor"],
        scheduler={**config.scheduler, "_class_name": "PNDMScheduler", "skip_prk_steps": True},
        layout="diffusers",
    )


def _byte_tokenizer(vocab_size: int, window: int) -> PublishedTokenizer:
    """The last of its tokens ends a prompt and pads it."""
    return PublishedTokenizer(byte_clip_json(vocab_size), vocab_size, END, vocab_size - 1, window, "byte tokenizer")


def random_gluegen_text(variant: str = "sd15", seed: int = 0) -> tuple[PromptEncoder, dict[str, GlueNetConditioner]]:
    """GlueGen's text path: the encoder with its byte tokenizer, and a conditioner for each of two languages."""
    conditioners = {
        language: GlueNetConditioner(random_translator(variant, seed + number), random_tensor_norm(variant))
        for number, language in enumerate(LANGUAGES)
    }
    tokenizer = byte_xlmr_json(model_sizes(variant).xlmr["vocab_size"])
    return xlmr_prompt_encoder(random_xlmr(variant, seed), tokenizer), conditioners


def random_xlmr(variant: str = "sd15", seed: int = 0) -> "XLMRobertaModel":
    """XLM-R without its pooler; for `sd15` XLM-R-large."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    settings = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, **model_sizes(variant).xlmr}
    return _random(lambda: XLMRobertaModel(XLMRobertaConfig(**settings), add_pooling_layer=False), variant, seed)


def random_translator(variant: str = "sd15", seed: int = 0) -> TranslatorNoLN:
    """A GlueNet translator from the variant's XLM-R to its UNet's context; for `sd15` (77, 1024, 768)."""
    sizes = model_sizes(variant)
    width, width_out = sizes.xlmr["hidden_size"], sizes.stable_diffusion["unet"]["context_dim"]
    translator = _random(lambda: TranslatorNoLN(sizes.tokens, width, width_out), variant, seed)
    for value in translator.tail.net_tok[-1].parameters():
        value.div_(64)  # a tail without LayerNorms would otherwise leave CLIP's scale far behind
    return translator


def random_tensor_norm(variant: str = "sd15") -> Tensor:
    """Norms like those of CLIP's features, [tokens, 1]: the first token's stands out, the others are alike."""
    norm = torch.full((model_sizes(variant).tokens, 1), 28.3)
    norm[0] = 43.82
    return norm


def random_gluegen_sound(variant: str = "sd15", seed: int = 0) -> tuple[AudioClip, SoundConditioner, Tensor]:
    """GlueGen's sound path: audio branch, conditioner, and an unconditional context [1, tokens, D] of CLIP's scale."""
    sizes = model_sizes(variant)
    width = sizes.audio.features // sizes.sound_tokens
    width_out = sizes.stable_diffusion["unet"]["context_dim"]
    encoder = _random(lambda: AudioClip(sizes.audio), variant, seed)
    encoder.bn1.weight.div_(16)  # decibels are large, and would drive every attention to 0 or 1
    translator = _random(lambda: TranslatorWithHead(sizes.sound_tokens, sizes.tokens, width, width_out), variant, seed)
    for value in translator.tail_2.net_tok[-1].parameters():
        value.div_(8)  # to CLIP's scale, as in the text translators
    norm = random_tensor_norm(variant)
    random = torch.Generator().manual_seed(seed)
    unconditional = torch.randn(1, sizes.tokens, width_out, generator=random) * norm / width_out**0.5
    return encoder, SoundConditioner(translator, norm), unconditional


def random_elite(variant: str, unet: "UNet2DConditionModel", seed: int = 0) -> Elite:
    """ELITE for this UNet; for `sd15` CLIP ViT-L/14 and mappers 1024 -> 768."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    vision = model_sizes(variant).elite_vision
    widths = vision["hidden_size"], unet.config.cross_attention_dim
    words, patches = (
        build_module(lambda: GlobalMapper(*widths), variant),
        build_module(lambda: LocalMapper(*widths), variant),
    )
    global_part = _random(lambda: EliteCheckpoint(words, unet), variant, seed)
    local_part = _random(lambda: EliteCheckpoint(patches, unet), variant, seed + 1)
    tower = _random(lambda: CLIPVisionModel(CLIPVisionConfig(**vision)), variant, seed)
    return Elite(tower, words, global_part.weights(), patches, local_part.weights())


def random_ip_adapter(
    variant: str, unet: "UNet2DConditionModel", seed: int = 0
) -> tuple["CLIPVisionModelWithProjection", IpAdapter]:
    """IP-Adapter for this UNet and its vision tower; for `sd15` OpenCLIP ViT-H/14 and four tokens."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = model_sizes(variant).ip_adapter_vision
    widths = vision["projection_dim"], unet.config.cross_attention_dim
    projection = build_module(lambda: EmbedTokens(*widths, tokens=4), variant)
    adapter = _random(lambda: IpAdapterCheckpoint(projection, unet), variant, seed)
    tower = _random(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)), variant, seed)
    return tower, IpAdapter(projection, adapter.weights())


def random_fastcomposer(variant: str, base: StableDiffusion, seed: int = 0) -> FastComposerCheckpoint:
    """FastComposer with the base's own UNet and text encoder; for `sd15` CLIP ViT-L/14 and fusion at 768."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    assert base.text_encoder is not None
    width = base.text_encoder.config.hidden_size
    vision = {**model_sizes(variant).elite_vision, "projection_dim": width}
    tower = _random(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)), variant, seed)
    postfuse = _random(lambda: Postfuse(width), variant, seed)
    return FastComposerCheckpoint(tower, base.unet, base.text_encoder, postfuse)


def _random(make: Callable[[], Module], variant: str, seed: int) -> Module:
    return draw_weights(build_module(make, variant), seed)


@torch.no_grad()
def draw_weights(module: Module, seed: int) -> Module:
    """Fills every parameter of the module in place, and returns it: no copy is made, no output layer is left at zero.

    Matrices and kernels have a standard deviation of 1 / sqrt(fan-in), vectors of 0.1 around 1 (weights) or 0 (biases).
    Each is drawn from a seed of its own, made of `seed` and its name.
    """
    for name, value in module.named_parameters():
        generator = torch.Generator().manual_seed(crc32(f"{seed} {name}".encode()))
        if value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        else:
            value.normal_(1 if name.endswith("weight") else 0, 0.1, generator=generator)
    return module
