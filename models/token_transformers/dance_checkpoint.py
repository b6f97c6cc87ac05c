"""CDCD's dance-to-music branch from its files: the transformer, what it is conditioned on, and the codec of its music.

Source: CDCD (arXiv 2206.07771) and its code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..codecs.jukebox import LEVELS, JukeboxLevel, load_jukebox
from ..errors import CheckpointError, read_all
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from ..readers.tensors import read_section, read_tensors
from .dance import DanceCondition, load_dance
from .vq_diffusion_checkpoint import WITH_AVERAGED, VqDiffusion, read_vq_diffusion
from .vq_diffusion_config import VqDiffusionConfig, transformer_settings

CODEC = "vqvae."
CONDITION = ("condition_emb.*", "lin1.*")
"""Of the averaged weights, what the transformer is conditioned on."""


@dataclass(frozen=True, slots=True)
class DanceMusicConfig:
    """What the transformer is, and which `level` of the codec's three it draws."""

    model: VqDiffusionConfig
    level: int


@dataclass(frozen=True, slots=True)
class DanceMusic:
    """Everything in float32 and eval mode; `model` reads the one token of `condition`, and its tokens are `codec`'s."""

    model: VqDiffusion
    condition: DanceCondition
    codec: JukeboxLevel


def read_dance_music_config(path: Path) -> DanceMusicConfig:
    """The settings of the file at `path`; CheckpointError lists every one that is absent, odd, unknown or another
    model's."""
    top = ConfigReader(given_yaml(path), str(path), model="CDCD's dance to music")
    model = top.section("model").section("params")
    diffusion = model.section("diffusion_config").section("params")
    transformer, grid = transformer_settings(diffusion)
    levels = {section.only("hop_level", *LEVELS, absent="top") for section in (model, diffusion)}
    if len(levels) > 1:
        top.problems.append(f"{path}: expected one hop_level, got {sorted(map(str, levels))}; fix: give the original")
    # The sizes of these are in their tensors.
    model.skip("condition_info_motion", "condition_info_video", "condition_info_genre", "condition_codec_config")
    for section in (model, diffusion):
        section.skip("content_info", "content_codec_config", "condition_emb_config", "vqvae_load_path")
        section.close()
    if transformer.context_width is None or grid[0] != 1:
        top.problems.append(
            f"{path}: expected a transformer that reads a condition, over tokens in one row, got another; "
            "fix: give the configuration of CDCD's dance to music"
        )
    if top.problems:
        raise CheckpointError(*top.problems)
    config = VqDiffusionConfig(transformer, grid, None, False, {}, str(path))
    return DanceMusicConfig(config, LEVELS[levels.pop()])


def read_dance_music(checkpoint: Path, codec: Path, config: DanceMusicConfig) -> DanceMusic:
    """All networks of a training checkpoint, and the codec of vqvae.pt; the checkpoint's own goes before it, as its
    authors load it.

    Raises CheckpointError with all that is wrong: with each file, and with a codec that is another's.
    """
    model, jukebox = read_all(
        lambda: read_section(checkpoint, "model", WITH_AVERAGED),
        lambda: load_jukebox(read_tensors(codec), config.level, str(codec)),
    )
    networks, condition, own = read_all(
        lambda: read_vq_diffusion(checkpoint, config.model, (*CONDITION, f"{CODEC}*")),
        lambda: load_dance(model, read_section(checkpoint, "ema", WITH_AVERAGED), str(checkpoint)),
        lambda: _own_codec(model, config.level, f"{checkpoint}, model"),
    )
    transformer, problems = config.model.transformer, []
    if jukebox.settings.codes != transformer.classes:
        problems.append(
            f"{codec}: expected a codec of the transformer's {transformer.classes} codes, got "
            f"{jukebox.settings.codes}; fix: give the one that it was trained with"
        )
    if condition.settings.width != transformer.context_width:
        problems.append(
            f"{checkpoint}: expected a condition of width {transformer.context_width}, got "
            f"{condition.settings.width}; fix: give checkpoint and configuration that belong together"
        )
    if problems:
        raise CheckpointError(*problems)
    return DanceMusic(networks, condition, own or jukebox)


def _own_codec(model: Mapping[str, Tensor], level: int, source: str) -> JukeboxLevel | None:
    """The codec in a training checkpoint, None where it was saved without."""
    own = {key.removeprefix(CODEC): value for key, value in model.items() if key.startswith(CODEC)}
    return load_jukebox(own, level, source) if own else None
