"""The closed world that the small models are trained and judged on: 64 pictures, 8 backgrounds, 8 languages.

Needs numpy and Pillow only: the pictures are a committed atlas and the names a committed table.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CANVAS = 64
PICTURE = 52
COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Background:
    key: str
    rgb: tuple[int, int, int]


@cache
def table() -> dict[str, Any]:
    """The committed table: `languages`, `backgrounds`, `pictures`."""
    return json.loads((HERE / "vocabulary.json").read_text(encoding="utf-8"))


def languages() -> tuple[str, ...]:
    return tuple(table()["languages"])


def picture_keys() -> tuple[str, ...]:
    """Names of the 64 pictures, in atlas order."""
    return tuple(entry["key"] for entry in table()["pictures"])


@cache
def backgrounds() -> tuple[Background, ...]:
    """The eight named colours; white is what a caption without a background gets."""
    return tuple(Background(entry["key"], tuple(entry["rgb"])) for entry in table()["backgrounds"])


@cache
def pictures() -> np.ndarray:
    """The atlas cut apart: uint8 RGBA [64, 52, 52, 4]."""
    return atlas_tiles(HERE / "vocabulary.png", len(picture_keys()))


def atlas_tiles(path: Path, count: int) -> np.ndarray:
    """The first `count` pictures of an atlas: uint8 RGBA [count, 52, 52, 4]."""
    with Image.open(path) as atlas:
        sheet = np.asarray(atlas.convert("RGBA"))
    rows = sheet.shape[0] // PICTURE
    tiles = sheet.reshape(rows, PICTURE, COLUMNS, PICTURE, 4).swapaxes(1, 2)
    return tiles.reshape(rows * COLUMNS, PICTURE, PICTURE, 4)[:count]


def scene(key: str, background: str | None = None) -> np.ndarray:
    """The picture `key` centred on a named background (white when None): uint8 [64, 64, 3]."""
    colours = {entry.key: entry.rgb for entry in backgrounds()}
    return on_colour(
        pictures()[picture_keys().index(key)][None], np.asarray(colours[background or "white"], np.float32)
    )[0]


def on_colour(tiles: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Tiles (uint8 RGBA [n, 52, 52, 4]) centred over one colour: uint8 [n, 64, 64, 3]."""
    canvas = np.broadcast_to(colour.astype(np.float32), (len(tiles), CANVAS, CANVAS, 3)).copy()
    edge = (CANVAS - PICTURE) // 2
    window = canvas[:, edge : edge + PICTURE, edge : edge + PICTURE]
    window += tiles[..., 3:].astype(np.float32) / 255 * (tiles[..., :3] - window)
    return np.round(canvas).astype(np.uint8)


def placed(tile: np.ndarray) -> np.ndarray:
    """One channel of a tile, [52, 52], at its place on an empty canvas: [64, 64]."""
    edge = (CANVAS - PICTURE) // 2
    return np.pad(tile, edge)
