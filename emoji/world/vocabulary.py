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

HERE = Path(__file__).parents[1]
CANVAS = 64
PICTURE = 52
COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Background:
    """One colour to draw on: its name and its levels."""

    key: str
    rgb: tuple[int, int, int]


@cache
def vocabulary_table() -> dict[str, Any]:
    """The committed table: `languages`, `backgrounds`, `pictures`."""
    return json.loads((HERE / "vocabulary.json").read_text(encoding="utf-8"))


def languages() -> tuple[str, ...]:
    """The languages of the captions."""
    return tuple(vocabulary_table()["languages"])


def picture_keys() -> tuple[str, ...]:
    """Names of the 64 pictures, in atlas order."""
    return tuple(entry["key"] for entry in vocabulary_table()["pictures"])


@cache
def backgrounds() -> tuple[Background, ...]:
    """The eight named colours; white is what a caption without a background gets."""
    return tuple(Background(entry["key"], tuple(entry["rgb"])) for entry in vocabulary_table()["backgrounds"])


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


KINDS = {
    "food": """red apple, banana, grapes, watermelon, strawberry, cherries, pineapple, avocado, eggplant, carrot,
        ear of corn, mushroom, pizza, hamburger, doughnut, pretzel, beer mug, birthday cake, broccoli, cheese wedge,
        cookie, cupcake, ice cream, lemon, sushi, tomato""",
    "animals": """frog, panda, lion, penguin, octopus, crab, dolphin, butterfly, ladybug, turtle, snake, elephant,
        giraffe, zebra, fox, owl, cow face, flamingo, hatching chick, honeybee, koala, parrot, peacock, pig face, snail,
        tropical fish, unicorn, whale""",
    "plants": """cactus, sunflower, rose, evergreen tree, maple leaf, palm tree, potted plant, tulip, Christmas tree,
        jack-o-lantern""",
    "travel and sky": """bus, ambulance, tractor, bicycle, locomotive, rocket, helicopter, sailboat, car, anchor, house,
        rainbow, fire, castle, circus tent, flying saucer, fountain, high voltage, motor scooter, police car,
        ringed planet, ship, tent, volcano""",
    "play and music": """balloon, gift, soccer ball, guitar, trumpet, artist palette, basketball, bullseye,
        crystal ball, kite, radio, teddy bear, trophy, violin""",
    "things to wear": """crown, gem stone, running shoe, dress, glasses, graduation cap, t-shirt, top hat, watch""",
    "tools": """key, bell, light bulb, camera, scissors, bomb, hammer, magnet, money bag, pill, television""",
    "figures": """alien, ghost, heart with arrow, robot, Santa Claus, smiling face with sunglasses""",
}


@cache
def kinds() -> dict[str, str]:
    """The kind of every picture, by the picture's key."""
    return {" ".join(key.split()): kind for kind, keys in KINDS.items() for key in keys.split(",")}
