"""The tiny bundle of every system, and the quickest command that draws with each."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bundles import tiny

from .held import Command
from .room import Room


@dataclass(frozen=True, slots=True)
class System:
    """A bundle's place, and what its command names beside the folder; files are made by `give`."""

    source: Callable[[], Path]
    arguments: tuple[str, ...]
    give: tuple[str, ...] = ()


SYSTEMS = {
    "gluegen-text": System(partial(tiny, "gluegen-text"), ("red apple", "--language", "French")),
    "elite": System(partial(tiny, "elite"), ("a photo of S", "--subject", "subject.png"), ("subject.png",)),
    "ip-adapter": System(partial(tiny, "ip-adapter"), ("red", "--image", "subject.png"), ("subject.png",)),
    "fastcomposer": System(
        partial(tiny, "fastcomposer"), ("a man <|image|> runs", "--subject", "subject.png"), ("subject.png",)
    ),
    "gluegen-sound": System(partial(tiny, "gluegen-sound"), ("--sound", "sound.wav"), ("sound.wav",)),
}


def drawing(room: Room, system: str, *more: str, must_refuse: bool = False) -> Command:
    """`x2i run` with this worker's copy of a bundle, in few and small steps where `more` does not say otherwise."""
    for name in SYSTEMS[system].give:
        give(room.work / name)
    out, latents = room.work / "out.png", room.work / "latents.npy"
    words = ["run", str(room.bundle(system)), *SYSTEMS[system].arguments, "--threads", "1"]
    words += ["--out", str(out), "--save-latents", str(latents), *more]
    return Command(words, [out, latents], must_refuse=must_refuse)


QUICK = ("--steps", "2", "--size", "64x64")


def give(path: Path) -> None:
    """A good picture or sound, by the name's suffix."""
    if path.suffix == ".png":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)).save(path)
    else:
        import soundfile

        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 6000).astype(np.float32), 8000)
    os.utime(path, (1, 1))
