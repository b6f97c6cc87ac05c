"""UniD3's published files in the goldens."""

from functools import cache
from pathlib import Path

import torch
from x2i.models.token_transformers.unid3 import UniD3Settings, UniD3Transformer
from x2i.models.token_transformers.unid3_checkpoint import UniD3, read_unid3, read_unid3_settings

from tests.goldens import golden

FOLDER = "unid3/checkpoint"


def options_file() -> Path:
    return golden(FOLDER) / "args.json"


def checkpoint_file() -> Path:
    return only("pretrained_models/*.pth")


def codec_file() -> Path:
    return only("misc/taming_dvae/*.pth")


def code_map_file() -> Path:
    return only("misc/statistics/*.pt")


def only(pattern: str) -> Path:
    (found,) = golden(FOLDER).glob(pattern)
    return found


@cache
def settings() -> UniD3Settings:
    return read_unid3_settings(options_file())


def read() -> UniD3:
    return read_unid3(checkpoint_file(), settings())


@cache
def network() -> UniD3Transformer:
    """Tests must not change it."""
    return read().transformer


DIRECTIONS = {"txt": (True, False), "img": (False, True), "pair": (True, True)}
"""What each of the authors' networks draws: picture, caption."""


@torch.no_grad()
def logits(
    transformer: UniD3Transformer, tokens: torch.Tensor, timestep: int, draws: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the picture and of the caption, classes last."""
    flags = (torch.full((len(tokens),), flag) for flag in draws)
    return transformer(tokens, torch.full((len(tokens),), timestep), *flags)
