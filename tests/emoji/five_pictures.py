"""A world of five drawn pictures, so that the stages of training can be tested without a font."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from x2i.emoji.elite import subject_latents
from x2i.emoji.fastcomposer import views
from x2i.emoji.recipe import clip, text, unet, vae
from x2i.emoji.world import vocabulary

EMOJI = "🍎🐸🚌🔑🌹"


def five_pictures() -> dict[str, Image.Image]:
    """What `scenes.wide_pictures` is for the font: pictures by their characters, all of the vocabulary."""
    pictures = {}
    for number, character in enumerate(EMOJI):
        picture = Image.new("RGBA", (90, 100))
        ImageDraw.Draw(picture).ellipse((5, 9 * number, 80, 99), fill=(50 * number, 200, 255 - 50 * number, 255))
        pictures[character] = picture
    return pictures


@pytest.fixture(scope="module", autouse=True)
def few_names() -> Iterator[None]:
    """Four names instead of 64, and float32 where pictures are only encoded before a stage begins.

    CPUs without bfloat16 arithmetic take eight times as long with it. The stages' own steps keep it.
    """
    keys = vocabulary.picture_keys()[:4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "picture_keys", lambda: keys)
        for module in (subject_latents, views):
            patch.setattr(module, "low_precision", nullcontext)
        forget()
        yield
    forget()


def forget() -> None:
    """Clears what the world has made of other names, or of other pictures."""
    for name, module in list(sys.modules.items()):
        if name.startswith("x2i.emoji"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def save_untrained(folder: Path) -> None:
    """Writes the state files of the networks that later stages keep frozen, as if their stages had just begun."""
    torch.manual_seed(3)
    for name, module in {
        "vae": vae.build(),
        "text": text._with_heads(),
        "unet": unet.build(),
        "clip": clip._with_heads(),
    }.items():
        torch.save({"average": module.state_dict()}, folder / f"{name}.pt")
