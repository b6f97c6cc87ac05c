"""The alpha of each layer: beside its tensors, or in the settings that diffusers and PEFT save with a file."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, one_line
from ..files.reading import parse_json, read_json_file
from .names import TEXT, UNET

METADATA = "lora_adapter_metadata"
"""The entry of a safetensors file's metadata in which diffusers keeps the settings, a JSON text."""
PEFT_SETTINGS = "adapter_config.json"
"""The file beside PEFT's weights."""


@dataclass(frozen=True, slots=True)
class AlphaSettings:
    """What PEFT scales a part's changes by: `alpha / rank`, or `alpha / sqrt(rank)` if `rooted`.

    `patterns` have the alphas of some layers, by the end of their paths; `alpha` is the others', None for the rank.
    """

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    rooted: bool = False

    def scale(self, path: str, rank: int) -> float:
        """The factor of a layer's change."""
        ends = (end for end in self.patterns if path == end or path.endswith(f".{end}"))
        found = next(ends, None)
        alpha = self.alpha if found is None else self.patterns[found]
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rooted else rank)


def stated_settings(metadata: Mapping[str, str], file: Path) -> dict[str, AlphaSettings]:
    """The settings by part: diffusers' in the file's metadata, or PEFT's beside it, which hold for every part.

    Raises InputError for settings that are damaged, or whose alphas are no numbers.
    """
    if METADATA in metadata:
        where = f"{file}: {METADATA}"
        stated = parse_json(metadata[METADATA], where)
    elif (beside := file.parent / PEFT_SETTINGS).is_file() and file.name.startswith("adapter_model."):
        where = str(beside)
        stated = read_json_file(beside, where, "PEFT's settings")
    else:
        return {}
    if not isinstance(stated, dict):
        raise InputError(f"{where}: expected a JSON object, got {one_line(repr(stated), 60)}; save the LoRA again")
    if "lora_alpha" in stated or "alpha" in stated:
        return dict.fromkeys((UNET, TEXT), _settings(stated, where))
    parts = {part: _of_part(stated, part) for part in (UNET, TEXT)}
    return {part: _settings(values, where) for part, values in parts.items() if values}


def _of_part(stated: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {key.removeprefix(f"{part}."): value for key, value in stated.items() if key.startswith(f"{part}.")}


def _settings(values: Mapping[str, Any], where: str) -> AlphaSettings:
    alpha, patterns = values.get("lora_alpha", values.get("alpha")), values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        got = one_line(repr(patterns), 60)
        raise InputError(f"{where}: expected alphas by layers' names as alpha_pattern, got {got}; save the LoRA again")
    named = {"lora_alpha": alpha, **patterns}
    problems = [
        f"{where}: expected a number as the alpha {key}, got {one_line(repr(value), 60)}; save the LoRA again"
        for key, value in named.items()
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float))
    ]
    unclear = [key for key in named if not re.fullmatch(r"\^?[\w.]+\$?", key)]
    problems += [
        f"{where}: expected layers' names as alpha_pattern, got the expression {one_line(repr(key), 60)}; name them"
        for key in unclear
    ]
    if problems:
        raise InputError(*problems)
    ends = {key.strip("^$"): float(value) for key, value in patterns.items()}
    return AlphaSettings(None if alpha is None else float(alpha), ends, values.get("use_rslora") is True)
