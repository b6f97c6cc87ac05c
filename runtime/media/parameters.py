"""What a picture was drawn from: a record, its JSON, and the text that other programs read.

The text is AUTOMATIC1111's: the prompt, the negative prompt, and a line of `Key: value` pairs (`create_infotext` and
`parse_generation_parameters` of its web UI). The JSON alone is complete.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ..bundle.records import Count, Index, Sha256, Side, decode, encode
from ..errors import InputError
from ..files.reading import parse_json
from ..inputs.registry import run_options

VERSION = 1
"""Of the record."""
HASH_DIGITS = 10
"""Of a model's digest, as AUTOMATIC1111 shows it."""
SAMPLER_TITLES = {
    "ddim": "DDIM",
    "ddim_compvis": "DDIM",
    "plms": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_karras": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "unipc": "UniPC",
    "lcm": "LCM",
}
"""Those that AUTOMATIC1111 has by another name."""
TOLD_APART = ("negative", "seed", "steps", "sampler", "sigmas", "guidance", "size", "strength", "start_strength")
"""Options that have a place of their own in the line."""
_PLAIN = re.compile(r'[^\s,:"]([^,:"\n]*[^\s,:"])?')


@dataclass(frozen=True, slots=True)
class BundleMark:
    """A bundle: the name of its folder, its system, and the SHA-256 of its manifest, None where it was changed in
    memory."""

    name: str
    system: str
    manifest: Sha256 | None


@dataclass(frozen=True, slots=True)
class GivenFile:
    """Something that a picture was drawn from: the SHA-256 of the file, or of the pixels, samples or numbers where none
    was named; the last part of its path; and its number where it was cut from an array with one for each picture."""

    sha256: Sha256
    name: str | None = None
    share: Index | None = None


@dataclass(frozen=True, slots=True)
class Walked:
    """How the picture came about: `steps` were walked, and `size` is its (height, width) in pixels."""

    sampler: str
    steps: Count
    size: tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class RunValues:
    """Options of a run by their names; none that names a file."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def key_types(cls) -> dict[str, Any]:
        return {name: option.json_type for name, option in run_options().items() if not option.is_file}

    @classmethod
    def required_keys(cls) -> frozenset[str]:
        return frozenset()

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> Self:
        return cls(dict(values))

    def to_keys(self) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What one picture was drawn from.

    `options` are those that the caller gave, but the seed is this very picture's, and it is drawn alone with it;
    `defaults` are what the preset or the plan added, as options; `values` are both in one dict. `files` are what else
    was given, by the names of their options. `missing` says, a line each, why the same picture cannot be drawn from all
    this; mostly nothing does.
    """

    version: Literal[1] = field(default=1, init=False)
    x2i: str
    bundle: BundleMark
    backend: str
    walked: Walked
    prompt: str | None = None
    options: RunValues = field(default_factory=RunValues)
    defaults: RunValues = field(default_factory=RunValues)
    files: dict[str, tuple[GivenFile, ...]] = field(default_factory=dict)
    text_bundle: BundleMark | None = None
    missing: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The record as plain JSON, every key of which `from_json` knows."""
        data: dict[str, Any] = encode(self)
        return data

    @classmethod
    def from_json(cls, text: str, where: str) -> "Parameters":
        """The record in a JSON text; `where` names it in messages. Raises InputError for anything else, a line for each
        problem."""
        data = parse_json(text, where)
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            raise InputError(
                f"{where}: parameters of version {version}, but this x2i reads up to {VERSION}; upgrade x2i-edge"
            )
        found = decode(cls, data, where)
        known = [name for name, option in run_options().items() if option.is_file]
        problems = [
            f"{where}.files: unknown key {name!r} (known: {', '.join(known)})"
            for name in found.files
            if name not in known
        ]
        problems += [
            f"{where}.files.{name}: expected a file at least, got none" for name in known if found.files.get(name) == ()
        ]
        if problems:
            raise InputError(*problems)
        return found

    @property
    def values(self) -> dict[str, Any]:
        """Every option that decides the picture, the caller's before the defaults."""
        return {**self.defaults.values, **self.options.values}

    def text(self) -> str:
        """What AUTOMATIC1111 writes of a picture, and reads back."""
        negative = self.values.get("negative")
        lines = [self.prompt or "", *([f"Negative prompt: {negative}"] if negative else [])]
        lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in self._pairs() if value))
        # A text in a PNG ends at its first zero.
        return "\n".join(lines).replace("\0", " ").strip()

    def _pairs(self) -> Iterator[tuple[str, str]]:
        values, walked = self.values, self.walked
        sampler = str(values.get("sampler", walked.sampler))
        sigmas = "karras" if sampler == "dpmpp_2m_karras" else values.get("sigmas")
        yield "Steps", str(values.get("steps", walked.steps))
        yield "Sampler", SAMPLER_TITLES.get(sampler, sampler)
        yield "Schedule type", (sigmas or "").capitalize()
        yield "CFG scale", f"{values['guidance']:g}" if "guidance" in values else ""
        yield "Seed", str(values.get("seed", 0))
        yield "Size", f"{walked.size[1]}x{walked.size[0]}"
        yield "Model hash", (self.bundle.manifest or "")[:HASH_DIGITS]
        yield "Model", self.bundle.name
        # Where a start decides the size, the strength is how much of it is drawn anew.
        key = "Strength" if "size" in values or "start_strength" in values else "Denoising strength"
        yield key, f"{values['strength']:g}" if "strength" in values else ""
        yield "Denoising strength", f"{values['start_strength']:g}" if "start_strength" in values else ""
        for name, value in self.options.values.items():
            if name not in TOLD_APART:
                yield name.replace("_", " ").capitalize(), value if isinstance(value, str) else json.dumps(value)
        yield "Version", f"x2i {self.x2i}"


def _quoted(value: str) -> str:
    """A value that may stand between commas."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
