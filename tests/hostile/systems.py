"""The tiny bundle of every system, and the quickest call that draws with each."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bundles import tiny
from tests.made_once import made_once

from .held import Command
from .room import Room

OPTIONS = {"class_id": "--class"}
"""Spellings on the command line that are not the name's."""


@dataclass(frozen=True, slots=True)
class System:
    """A bundle's place, its prompt, the other keywords of a good call, whose files `give` makes, and those that make it
    quick. `out` is what a run writes, and `state` what it walks."""

    source: Callable[[], Path]
    prompt: str | None = None
    good: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=lambda: {"steps": 2, "size": (64, 64)})
    out: str = "out.png"
    state: str = "latents"

    @property
    def walks_tokens(self) -> bool:
        """Whether it draws tokens."""
        return self.state == "tokens"

    @property
    def quick_by_options(self) -> bool:
        """Whether it is made quick by options alone, and not by a size and steps that its manifest could name."""
        return "size" not in self.quick


def _latents(system: str, prompt: str | None, **good: Any) -> System:
    return System(partial(tiny, system), prompt, good)


def _cascade(system: str, prompt: str | None, variant: str = "tiny", quick: Any = None, **good: Any) -> System:
    """One whose sizes or stages are its own."""
    source = partial(tiny, system) if variant == "tiny" else partial(_random, system, variant)
    return System(source, prompt, good, quick or {"steps": 2})


def _tokens(
    system: str, prompt: str | None = None, variant: str = "tiny", out: str = "out.png", quick: Any = None, **good: Any
) -> System:
    """One of a fixed size, unless `quick` says otherwise."""
    source = partial(tiny, system) if variant == "tiny" else partial(_random, system, variant)
    return System(source, prompt, good, quick or {}, out, "tokens")


def _random(system: str, variant: str) -> Path:
    """A bundle from other tiny random weights than the usual ones."""
    from x2i.export.exporter import export_bundle
    from x2i.export.plan import ExportPlan

    def export(out: Path) -> None:
        export_bundle(ExportPlan(system, out, random_weights=variant, licences=("none: random",)))

    return made_once(f"{variant}-{system}", export)


SUBJECT, SOUND, LAYOUT = Path("subject.png"), Path("sound.wav"), Path("layout.json")
BOXES = {"objects": [{"category_no": 3, "bbox_xywh": [0.1, 0.2, 0.5, 0.6]}]}
DANCE = {"motion": (12, 5), "video": (6,)}
"""The shapes of what the tiny bundle dances to."""
SYSTEMS = {
    "gluegen-text": _latents("gluegen-text", "red apple", language="French"),
    "elite": _latents("elite", "a photo of S", subject=SUBJECT),
    "ip-adapter": _latents("ip-adapter", "red", image=SUBJECT),
    "m-vader": _latents("m-vader", "red apple", image=SUBJECT),
    "fastcomposer": _latents("fastcomposer", "a man <|image|> runs", subjects=SUBJECT),
    "gluegen-sound": _latents("gluegen-sound", None, sound=SOUND),
    "sd": _latents("sd", "red apple"),
    "unclip": _cascade("unclip", "red", quick={"steps": 2, "prior_steps": 2, "super_resolution_steps": 2}),
    "ediff-i": _cascade("ediff-i", "red apple", style=SUBJECT),
    "frido": _cascade("frido", "red apple"),
    "frido-layout": _cascade("frido", None, variant="tiny-layout", layout=LAYOUT),
    "vq-diffusion": _tokens("vq-diffusion", "red apple", quick={"fast": 5}),
    "vq-diffusion-class": _tokens("vq-diffusion", variant="tiny-class", class_id=3),
    "cdcd": _tokens("cdcd", "red apple", quick={"fast": 5}),
    "cdcd-nothing": _tokens("cdcd", variant="tiny-nothing"),
    "cdcd-music": _tokens("cdcd-music", out="out.wav", motion=Path("motion.npy"), video=Path("video.npy"), genre=1),
    "diffsound": _tokens("diffsound", "rain", out="out.wav", quick={"fast": 5}),
    "unid3": _tokens("unid3", quick={"fast": 6}, image=SUBJECT, mask=Path("mask.png")),
    "vq-ddm": _tokens("vq-ddm"),
    "muse": _tokens("muse", "red", quick={"steps": 2}, image=SUBJECT),
    "ddcap": _tokens("ddcap", out="out.txt", quick={"length": 2}, image=SUBJECT),
}

TOKENS = tuple(name for name, system in SYSTEMS.items() if system.walks_tokens)
"""Those that draw tokens."""


def drawing(
    room: Room, system: str, *more: str, quick: bool = True, without: str = "", must_refuse: bool = False
) -> Command:
    """`x2i run` with this worker's copy of a bundle, in few and small steps where `more` does not say otherwise;
    `without` is a keyword that it does not give."""
    asked = SYSTEMS[system]
    given = {**asked.good, **(asked.quick if quick else {})}
    given.pop(without, None)
    give_all(room, given)
    out, state = room.work / asked.out, room.work / f"{asked.state}.npy"
    words = ["run", str(room.bundle(system)), *([] if asked.prompt is None else [asked.prompt]), *words_of(given)]
    words += ["--threads", "1", "--out", str(out), f"--save-{asked.state}", str(state), *more]
    return Command(words, [out, state], must_refuse=must_refuse)


def words_of(given: Mapping[str, Any]) -> list[str]:
    """Keywords of a call as the command line has them."""
    found = []
    for name, value in given.items():
        spelled = "--subject" if name == "subjects" else OPTIONS.get(name, f"--{name.replace('_', '-')}")
        found += [spelled, "x".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return found


QUICK = tuple(words_of(SYSTEMS["gluegen-text"].quick))
"""What makes a run of latents quick."""


def give_all(room: Room, given: Mapping[str, Any]) -> None:
    """The files that a good call names."""
    for value in given.values():
        if isinstance(value, Path):
            give(room.work / value)


def give(path: Path) -> None:
    """A good picture, mask, sound, array or layout, by the name."""
    random = np.random.default_rng(0)
    if path.name == "mask.png":
        Image.fromarray(np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)[None].repeat(48, 0)).save(path)
    elif path.suffix == ".png":
        Image.fromarray(random.integers(0, 256, (48, 40, 3), np.uint8)).save(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(BOXES), encoding="utf-8")
    elif path.suffix == ".npy":
        np.save(path, random.standard_normal(DANCE[path.stem], np.float32))
    else:
        import soundfile

        soundfile.write(path, random.uniform(-0.5, 0.5, 6000).astype(np.float32), 8000)
    os.utime(path, (1, 1))
