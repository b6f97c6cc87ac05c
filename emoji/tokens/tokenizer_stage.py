"""Stage `tokens`: the pictures' tokenizer, over 8 x 8 tokens of 512 kinds: each stands for its square's mean colour.

What a token means is fixed, so the stages that draw tokens need not wait for this one. The decoder learns to draw
pictures of squares of colour, the encoder to see the squares. One network serves two published layouts: aMUSEd's
VQModel, whose pixels run from 0 to 1, and the VQGAN of VQ-Diffusion, whose pixels run from -1 to 1. So it has what both
can say: 32 groups in every norm, no attention, and a first convolution that sees one pixel at a time, into which a
change of the pixels' range folds without a border.
"""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel
from torch import Tensor
from torch.nn import functional as F

from ..recipe import vae
from ..recipe.training import TrainingStage, averaged, low_precision, report
from ..world import vocabulary

BATCH = 4
PEAK = 1.5e-3
LEVELS = 8
AXES = 3
CODES = LEVELS**AXES
CHANNELS = (64, 64, 64, 64)
SQUARE = 2 ** (len(CHANNELS) - 1)
GRID = vocabulary.CANVAS // SQUARE
ENCODED = 1
MOVED_SHARE = 0.1
MOST_MOVED = 6


def build() -> VQModel:
    """f = 8, about 1.5 M parameters. Its codebook is not trained: it is the lattice of `codes`."""
    levels = len(CHANNELS)
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=AXES,
        vq_embed_dim=AXES,
        num_vq_embeddings=CODES,
        norm_num_groups=32,
        sample_size=vocabulary.CANVAS,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    model.quantize.embedding.weight.data.copy_(codes())
    model.quantize.embedding.requires_grad_(False)
    first = model.encoder.conv_in.weight
    centre = torch.zeros(1, 1, 3, 3)
    centre[..., 1, 1] = 1
    first.data *= centre
    first.register_hook(lambda gradient: gradient * centre.to(gradient))
    return model


@cache
def codes() -> Tensor:
    """The codebook, float32 [512, 3]: eight levels from -1 to 1 of red, green and blue.

    The nearest code is each colour rounded, which leaves no code unused (finite scalar quantization, arXiv 2309.15505).
    """
    axis = [2 * level / (LEVELS - 1) - 1 for level in range(LEVELS)]
    return torch.tensor(list(product(axis, repeat=AXES)))


def alike(width: int) -> Tensor:
    """Vectors of the codes to begin a table with, [512, width], their length about a half: like colours have like ones.

    A product with them can single out any colour, level by level, before the colours' own differences are learnt.
    """
    assert width >= LEVELS * AXES, "a vector holds every level of every axis"
    near = torch.exp(-0.5 * (torch.arange(LEVELS)[:, None] - torch.arange(LEVELS)) ** 2)
    levels = torch.tensor(list(product(range(LEVELS), repeat=AXES)))
    features = near[levels].flatten(1)
    turned = torch.linalg.qr(torch.randn(width, LEVELS * AXES)).Q
    vectors = (features - features.mean(0)) @ turned.T
    return vectors / (2 * vectors.norm(dim=1).mean())


def tokens(images: list[np.ndarray]) -> Tensor:
    """The tokens of uint8 pictures [64, 64, 3], int64 [n, 64], row by row: each square's mean colour, rounded."""
    levels = ((F.avg_pool2d(vae.pixels(images), SQUARE) + 1) / 2 * (LEVELS - 1)).round().long()
    red, green, blue = levels.flatten(2).unbind(1)
    return (red * LEVELS + green) * LEVELS + blue


def draw(rng: np.random.Generator) -> np.ndarray:
    """One training scene, uint8 [64, 64, 3]: mostly the vocabulary as it is, now and then moved, on any colour."""
    tiles, named = vocabulary.pictures(), vocabulary.backgrounds()
    tile = tiles[rng.integers(len(tiles))][None]
    colour = np.asarray(named[rng.integers(len(named))].rgb, np.float32)
    if rng.random() >= MOVED_SHARE:
        return vocabulary.on_colour(tile, colour)[0]
    moved = np.roll(tile, rng.integers(-MOST_MOVED, MOST_MOVED + 1, 2), (1, 2))
    return vocabulary.on_colour(moved, rng.uniform(0, 255, 3).astype(np.float32))[0]


def loss(model: VQModel, images: Tensor, tokens: Tensor) -> Tensor:
    """The loss on images, float32 [B, 3, H, W] in -1..1, and their tokens, int64 [B, 64].

    It counts pixels and edges of what the decoder draws of the tokens, and how far the first ENCODED images' latents
    are from the squares' mean colours.
    """
    with low_precision():
        drawn = model.decoder(model.post_quant_conv(vectors(tokens))).float()
        latents = model.encode(images[:ENCODED]).latents.float()
    value = F.l1_loss(drawn, images) + F.l1_loss(latents, F.avg_pool2d(images[:ENCODED], SQUARE))
    for made, real in zip(vae.edges(drawn), vae.edges(images), strict=True):
        value = value + F.l1_loss(made, real)
    return value


def vectors(tokens: Tensor) -> Tensor:
    """The codebook's vectors of tokens, int64 [n, 64]: float32 [n, 3, 8, 8], channels last in memory."""
    grid = codes().to(tokens.device)[tokens].mT.unflatten(2, (GRID, GRID))
    return grid.contiguous(memory_format=torch.channels_last)


def trained(folder: Path) -> VQModel:
    """The tokenizer as stage `tokens` left it, averaged weights, in eval mode; pixels run from -1 to 1."""
    return averaged(build(), folder / "tokens.pt")


@torch.no_grad()
def decoded(model: VQModel, tokens: Tensor) -> np.ndarray:
    """The pictures of tokens, int64 [n, 64]: uint8 [n, 64, 64, 3]."""
    drawn = model.decoder(model.post_quant_conv(vectors(tokens)))
    return ((drawn.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def scene_tokens() -> Tensor:
    """The tokens of every picture on every background, int64 [64, 8, 64]."""
    colours = [background.key for background in vocabulary.backgrounds()]
    return torch.stack([tokens([vocabulary.scene(key, each) for each in colours]) for key in vocabulary.picture_keys()])


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the tokenizer; the state is `folder/tokens.pt`."""
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    stage = TrainingStage.open(model, folder / "tokens.pt", PEAK)

    def of_step(number: int) -> Tensor:
        rng = np.random.default_rng([21, number])
        images = [draw(rng) for _ in range(BATCH)]
        return loss(model, vae.pixels(images), tokens(images))

    report(stage.run(minutes, of_step, steps))
