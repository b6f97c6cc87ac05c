"""Systems over a picture's tokens with random weights: VQ-Diffusion's and CDCD's, at released sizes and tiny."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..clip.text_encoder import empty_text_encoder
from ..codecs.token_codec import TokenCodec
from ..codecs.vqgan import PyramidSettings, Vqgan, VqganSettings
from ..readers.loading import build_module
from ..token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings
from ..token_transformers.vq_diffusion_checkpoint import VqDiffusion, clip_prompt_settings
from ..token_transformers.vq_diffusion_config import PromptSettings, VqDiffusionConfig
from .byte_tokenizer import byte_clip_json
from .sizes import chosen_sizes
from .weights import draw_weights


@dataclass(frozen=True, slots=True)
class PictureTokenModel:
    """A whole system: what its configuration says, its networks, its codec, and the prompts' tokenizer as JSON."""

    config: VqDiffusionConfig
    model: VqDiffusion
    codec: TokenCodec
    tokenizer: str | None


@dataclass(frozen=True, slots=True)
class TokenSizes:
    """The sizes of one system. `text` are CLIP's layers and inner width, where a text is read. Of the codec's `codes`
    the transformer knows as many as it has classes; `channels` by level, finest first, each of `blocks` blocks, with
    attention at the coarsest."""

    transformer: TokenTransformerSettings
    grid: tuple[int, int]
    prompt: PromptSettings | None
    text: tuple[int, int]
    codes: int
    code_width: int
    channels: tuple[int, ...]
    blocks: int = 2
    learned_null: bool = False


F8, F16 = (128, 128, 256, 512), (128, 128, 256, 256, 512)
CLIP_B32 = (12, 2048)
CLIP_PROMPT = PromptSettings(end_idx=49152, window=77, width=512)
TINY_PROMPT = PromptSettings(end_idx=260, window=9, width=64)


def _transformer(classes: int, side: int, width: int, layers: int, **more: Any) -> TokenTransformerSettings:
    settings: dict[str, Any] = {"steps": 100, "length": side**2, "position_grid": (side, side), "heads": 16} | more
    return TokenTransformerSettings(classes=classes, width=width, layers=layers, **settings)


TOKEN_SIZES = {
    "coco": TokenSizes(
        _transformer(2887, 32, 1024, 19, context_width=512), (32, 32), CLIP_PROMPT, CLIP_B32, 8192, 256, F8
    ),
    "ithq": TokenSizes(
        _transformer(4096, 32, 1408, 36, context_width=512),
        (32, 32),
        CLIP_PROMPT,
        CLIP_B32,
        4096,
        128,
        F8,
        learned_null=True,
    ),
    "imagenet": TokenSizes(
        _transformer(974, 16, 512, 24, position_grid=(32, 32), convolutional=True, class_rows=1000),
        (16, 16),
        None,
        (0, 0),
        16384,
        256,
        F16,
    ),
    "cdcd-coco": TokenSizes(
        _transformer(2887, 32, 192, 18, steps=80, mlp_factor=2, convolutional=True, context_width=512),
        (32, 32),
        CLIP_PROMPT,
        CLIP_B32,
        8192,
        256,
        F8,
    ),
    "tiny": TokenSizes(
        _transformer(11, 5, 24, 2, steps=10, heads=3, mlp_factor=2, context_width=64),
        (5, 5),
        TINY_PROMPT,
        (2, 96),
        19,
        16,
        (32, 32, 32),
        blocks=1,
        learned_null=True,
    ),
    "tiny-class": TokenSizes(
        _transformer(
            11, 5, 24, 2, steps=10, heads=3, mlp_factor=2, position_grid=(6, 7), convolutional=True, class_rows=7
        ),
        (5, 5),
        None,
        (0, 0),
        19,
        16,
        (32, 32, 32),
        blocks=1,
    ),
    "tiny-nothing": TokenSizes(
        _transformer(11, 5, 24, 2, steps=10, heads=3, mlp_factor=2, convolutional=True),
        (5, 5),
        None,
        (0, 0),
        19,
        16,
        (32, 32, 32),
        blocks=1,
    ),
}
"""`coco` is VQ-Diffusion's of 389 million weights, `ithq` its largest, `imagenet` the one of classes; `cdcd-coco` is
CDCD's."""


def random_picture_tokens(variant: str, seed: int = 0) -> PictureTokenModel:
    """The system called so in TOKEN_SIZES, in eval mode and float32; raises CheckpointError for another name."""
    sizes = chosen_sizes(TOKEN_SIZES, variant)
    config = VqDiffusionConfig(sizes.transformer, sizes.grid, sizes.prompt, sizes.learned_null, {}, variant)
    transformer = draw_weights(build_module(lambda: TokenTransformer(sizes.transformer), variant), seed)
    encoder, null_text, tokenizer = None, None, None
    if sizes.prompt is not None:
        encoder = draw_weights(empty_text_encoder(clip_prompt_settings(sizes.prompt, *sizes.text), variant), seed)
        tokenizer = byte_clip_json(sizes.prompt.vocabulary)
        null_text = _null_text(sizes.prompt, seed) if sizes.learned_null else None
    model = VqDiffusion(transformer, encoder, null_text, schedule={})
    classes = sizes.transformer.classes
    codec = random_picture_codec(sizes.channels, sizes.blocks, sizes.code_width, sizes.codes, classes, variant, seed)
    return PictureTokenModel(config, model, codec, tokenizer)


def _null_text(prompt: PromptSettings, seed: int) -> Tensor:
    """Vectors of training are not normalised; these have about CLIP's norm of 1."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(prompt.window, prompt.width, generator=random) / prompt.width**0.5


def random_picture_codec(
    channels: tuple[int, ...],
    blocks: int,
    code_width: int,
    codes: int,
    classes: int,
    variant: str,
    seed: int,
    gumbel: bool = False,
) -> TokenCodec:
    """A codec of pictures with `channels` by level, finest first, each of `blocks` blocks, with attention at the
    coarsest. Every class has a code, and the codes behind them are the last class's."""
    half = PyramidSettings(
        width=channels[0],
        multipliers=tuple(each // channels[0] for each in channels),
        blocks=blocks,
        attends=(*(False for _ in channels[1:]), True),
        channels=3,
        features=code_width,
    )
    vqgan = build_module(lambda: Vqgan(VqganSettings(half, half, code_width, codes, gumbel)), variant)
    reduced = None if classes == codes else torch.arange(codes).clamp(max=classes - 1)
    return TokenCodec(draw_weights(vqgan, seed), reduced)
