"""Frido with random weights: at its released sizes, of a prompt and of a layout, and tiny."""

from ...codecs.vqgan import PyramidSettings
from ...frido.checkpoint import Frido, frido_of
from ...frido.codec import CodecSettings
from ...frido.condition import EncoderSettings
from ...frido.settings import FridoSettings, NoiseSettings
from ...frido.unet import UnetSettings
from ...text_encoders.word_pieces import SPECIAL, tokenizer_of_pieces
from ..sizes import chosen_sizes
from ..weights import draw_weights

NOISE = NoiseSettings(steps=1000, start=0.0015, end=0.0155)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-!?"
VARIANTS = {
    "t2i-f16f8": FridoSettings(
        "text",
        side=32,
        noise=NOISE,
        unet=UnetSettings((4, 4), 192, (1, 2, 3, 5), 2, (2, 4, 8), 1, 640),
        codec=CodecSettings(
            (4, 4), (8192, 8192), PyramidSettings(128, (1, 1, 2, 4), 2, (False, False, False, True), 3, 8)
        ),
        encoder=EncoderSettings(640, 32, 30522, 77),
    ),
    "layout2i-f8f4": FridoSettings(
        "layout",
        side=64,
        noise=NOISE,
        unet=UnetSettings((3, 3), 192, (1, 2, 3, 5), 2, (2, 4, 8), 1, 640),
        codec=CodecSettings((3, 3), (4096, 4096), PyramidSettings(128, (1, 2, 4), 2, (False, False, True), 3, 6)),
        encoder=EncoderSettings(640, 32, 1100, 96),
    ),
    "tiny": FridoSettings(
        "text",
        side=12,
        noise=NOISE,
        unet=UnetSettings((4, 3), 32, (1, 2), 1, (1, 2), 1, 24),
        codec=CodecSettings((4, 3), (21, 18), PyramidSettings(32, (1, 1, 1), 1, (False, True, False), 3, 8)),
        encoder=EncoderSettings(24, 2, 120, 19),
    ),
    "tiny-layout": FridoSettings(
        "layout",
        side=8,
        noise=NOISE,
        unet=UnetSettings((2, 3), 32, (1, 2, 1), 1, (2,), 2, 20),
        codec=CodecSettings((2, 3), (17, 23), PyramidSettings(32, (1, 1), 1, (False, True), 3, 5)),
        encoder=EncoderSettings(20, 2, 150, 29),
    ),
}
"""The first two have the sizes of the authors' COCO models; the numbers of a layout's tokens are assumed."""


def random_frido(variant: str, seed: int = 0) -> Frido:
    """The model called so in VARIANTS, none of its weights zero; raises CheckpointError for another name."""
    frido = frido_of(chosen_sizes(VARIANTS, variant), variant)
    for number, network in enumerate((frido.encoder, frido.unet, frido.decoder)):
        draw_weights(network, seed + number)
    return frido


def random_word_pieces(classes: int) -> tuple[str, int]:
    """A tokenizer of letters, as its JSON text, and the id of its padding; `classes` is 100 or more."""
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    assert len(pieces) <= classes
    return tokenizer_of_pieces({piece: number for number, piece in enumerate(pieces)}), 0
