"""Diffsound with random weights: a whole system over a spectrogram's tokens, at released size and tiny."""

from dataclasses import dataclass
from typing import Any

from ..clip.text_encoder import empty_text_encoder
from ..codecs.melgan import Melgan, MelganSettings
from ..codecs.token_codec import TokenCodec
from ..codecs.vqgan import PyramidSettings, Vqgan, VqganSettings
from ..readers.loading import build_module
from ..token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings
from ..token_transformers.vq_diffusion_checkpoint import VqDiffusion, clip_prompt_settings
from ..token_transformers.vq_diffusion_config import PromptSettings, VqDiffusionConfig
from .byte_tokenizer import byte_clip_json
from .sizes import chosen_sizes
from .token_models import CLIP_B32, CLIP_PROMPT, TINY_PROMPT
from .weights import draw_weights


@dataclass(frozen=True, slots=True)
class SoundTokenModel:
    """What its configuration says, its networks, the codec of spectrograms, what makes them heard, and the prompts'
    tokenizer as JSON."""

    config: VqDiffusionConfig
    model: VqDiffusion
    codec: TokenCodec
    vocoder: Melgan
    tokenizer: str


@dataclass(frozen=True, slots=True)
class SoundTokenSizes:
    """The sizes of one system. `text` are CLIP's layers and inner width."""

    transformer: TokenTransformerSettings
    grid: tuple[int, int]
    prompt: PromptSettings
    text: tuple[int, int]
    codec: VqganSettings
    vocoder: MelganSettings


def _spectrograms(codes: int, width: int, multipliers: tuple[int, ...], blocks: int, features: int) -> VqganSettings:
    attends = (*(False for _ in multipliers[1:]), True)
    half = PyramidSettings(width, multipliers, blocks, attends, channels=1, features=features)
    return VqganSettings(half, half, features, codes)


def _transformer(grid: tuple[int, int], **sizes: Any) -> TokenTransformerSettings:
    return TokenTransformerSettings(length=grid[0] * grid[1], position_grid=grid, **sizes)


SOUND_TOKEN_SIZES = {
    "audiocaps": SoundTokenSizes(
        transformer=_transformer(
            (5, 53), classes=256, steps=100, width=1024, layers=19, heads=16, context_width=CLIP_PROMPT.width
        ),
        grid=(5, 53),
        prompt=CLIP_PROMPT,
        text=CLIP_B32,
        codec=_spectrograms(256, 128, (1, 1, 2, 2, 4), 2, 256),
        vocoder=MelganSettings(mels=80, width=32, blocks=3),
    ),
    "tiny": SoundTokenSizes(
        transformer=_transformer(
            (3, 7), classes=11, steps=10, width=24, layers=2, heads=3, mlp_factor=2, context_width=TINY_PROMPT.width
        ),
        grid=(3, 7),
        prompt=TINY_PROMPT,
        text=(2, 96),
        codec=_spectrograms(11, 32, (1, 1), 1, 12),
        vocoder=MelganSettings(mels=6, width=2, blocks=2),
    ),
}
"""`audiocaps` is the released model of 256 codes."""


def random_sound_tokens(variant: str, seed: int = 0) -> SoundTokenModel:
    """The system called so in SOUND_TOKEN_SIZES, in eval mode and float32; raises CheckpointError for another name."""
    sizes = chosen_sizes(SOUND_TOKEN_SIZES, variant)
    transformer = draw_weights(build_module(lambda: TokenTransformer(sizes.transformer), variant), seed)
    encoder = empty_text_encoder(clip_prompt_settings(sizes.prompt, *sizes.text), variant)
    return SoundTokenModel(
        config=VqDiffusionConfig(sizes.transformer, sizes.grid, sizes.prompt, False, {}, variant),
        model=VqDiffusion(transformer, draw_weights(encoder, seed), null_text=None, schedule={}),
        codec=TokenCodec(draw_weights(build_module(lambda: Vqgan(sizes.codec), variant), seed)),
        vocoder=draw_weights(build_module(lambda: Melgan(sizes.vocoder), variant), seed),
        tokenizer=byte_clip_json(sizes.prompt.vocabulary),
    )
