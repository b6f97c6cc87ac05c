"""UniD3 with random weights, at its released size and tiny."""

from dataclasses import dataclass

from ..clip.caption_tokenizer import captions_json
from ..codecs.token_codec import TokenCodec
from ..readers.loading import build_module
from ..token_transformers.unid3 import UniD3Settings, UniD3Transformer
from .byte_tokenizer import byte_clip_json
from .sizes import chosen_sizes
from .token_models import random_picture_codec
from .weights import draw_weights


@dataclass(frozen=True, slots=True)
class JointSizes:
    """The transformer, and of its picture codec the channels by level, finest first, with the blocks of each, and how
    many codes it has, of which the transformer knows as many as it has classes."""

    transformer: UniD3Settings
    channels: tuple[int, ...]
    blocks: int
    codes: int
    code_width: int


@dataclass(frozen=True, slots=True)
class JointModel:
    """A whole system in eval mode and float32; `tokenizer` is the captions' as JSON, with one piece a byte."""

    transformer: UniD3Transformer
    codec: TokenCodec
    tokenizer: str


JOINT_SIZES = {
    "unid3-cub": JointSizes(
        UniD3Settings(
            width=1024,
            heads=16,
            depth=20,
            timesteps=500,
            image_classes=2887,
            text_classes=8192,
            side=32,
            text_length=128,
        ),
        channels=(128, 128, 256, 512),
        blocks=2,
        codes=8192,
        code_width=256,
    ),
    "tiny": JointSizes(
        UniD3Settings(
            width=24,
            heads=3,
            depth=2,
            timesteps=12,
            image_classes=11,
            text_classes=514,
            side=5,
            text_length=7,
        ),
        channels=(32, 32, 32),
        blocks=1,
        codes=17,
        code_width=16,
    ),
}
"""`unid3-cub` has the sizes of the authors' birds, on a codec of 8 x 8 pixels a token."""


def random_unid3(variant: str, seed: int = 0) -> JointModel:
    """The model called so in JOINT_SIZES; raises CheckpointError for another name."""
    sizes = chosen_sizes(JOINT_SIZES, variant)
    settings = sizes.transformer
    transformer = draw_weights(build_module(lambda: UniD3Transformer(settings), variant), seed)
    tokenizer = captions_json(byte_clip_json(settings.text_classes), settings.text_classes)
    classes = settings.image_classes
    codec = random_picture_codec(
        sizes.channels, sizes.blocks, sizes.code_width, sizes.codes, classes, variant, seed, gumbel=True
    )
    return JointModel(transformer, codec, tokenizer)
