"""CDCD's dance-to-music branch with random weights, at released size and tiny."""

from dataclasses import dataclass

from ..codecs.jukebox import JukeboxLevel, JukeboxSettings
from ..readers.loading import build_module
from ..token_transformers.dance import DanceCondition, DanceSettings
from ..token_transformers.dance_checkpoint import DanceMusic
from ..token_transformers.vq_diffusion import TokenTransformer, TokenTransformerSettings
from ..token_transformers.vq_diffusion_checkpoint import VqDiffusion
from .sizes import chosen_sizes
from .weights import draw_weights


@dataclass(frozen=True, slots=True)
class DanceMusicSizes:
    """The sizes of one system; its transformer reads the dance's one token."""

    transformer: TokenTransformerSettings
    dance: DanceSettings
    codec: JukeboxSettings


DANCE_MUSIC_SIZES = {
    "top": DanceMusicSizes(
        TokenTransformerSettings(
            classes=2048,
            steps=80,
            length=1033,
            position_grid=(1, 1033),
            width=1024,
            layers=19,
            heads=16,
            context_width=1024,
        ),
        DanceSettings(
            features=219,
            hidden=800,
            channels=(360, 512, 512, 1024, 1),
            motion_width=1024,
            video_width=2048,
            genres=10,
            genre_width=256,
            width=1024,
        ),
        JukeboxSettings(codes=2048, code_width=64, halvings=(3, 2, 2), blocks=4, width=32, inner=32),
    ),
    "tiny": DanceMusicSizes(
        TokenTransformerSettings(
            classes=7,
            steps=6,
            length=9,
            position_grid=(1, 9),
            width=24,
            layers=2,
            heads=3,
            mlp_factor=2,
            context_width=10,
        ),
        DanceSettings(
            features=5,
            hidden=70,
            channels=(12, 6, 4, 1),
            motion_width=8,
            video_width=6,
            genres=3,
            genre_width=4,
            width=10,
        ),
        JukeboxSettings(codes=7, code_width=4, halvings=(1, 2), blocks=2, width=5, inner=3),
    ),
}
"""`top` is the released model of six seconds at the codec's coarsest level."""


def random_dance_music(variant: str, seed: int = 0) -> DanceMusic:
    """The system called so in DANCE_MUSIC_SIZES, in eval mode and float32; raises CheckpointError for another name."""
    sizes = chosen_sizes(DANCE_MUSIC_SIZES, variant)
    transformer = draw_weights(build_module(lambda: TokenTransformer(sizes.transformer), variant), seed)
    return DanceMusic(
        model=VqDiffusion(transformer, None, None, schedule={}),
        condition=draw_weights(build_module(lambda: DanceCondition(sizes.dance), variant), seed),
        codec=draw_weights(build_module(lambda: JukeboxLevel(sizes.codec), variant), seed),
    )
