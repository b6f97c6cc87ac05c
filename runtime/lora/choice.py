"""Which LoRA files are used, and how strongly: a path with a weight behind its last colon."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

FOLDER_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What a folder's file is called where diffusers, or PEFT, saved it."""
LARGEST_WEIGHT = 100.0
"""Beyond it a picture is noise; published weights lie between -2 and 2."""


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """A LoRA's file, or the folder that diffusers or PEFT saved it in, and the factor of its changes: finite, 1 where
    none is given, below 0 to take them away."""

    path: Path
    weight: float = 1.0

    def __str__(self) -> str:
        """The file's name and its weight, without a folder."""
        return f"{self.path.name}:{self.weight:g}"

    def file(self) -> Path:
        """The file of weights: the path itself, or the one in its folder."""
        # A name that no file can have is none, where pathlib's own questions raise OSError.
        if not os.path.isdir(self.path):
            return self.path
        found = (self.path / name for name in FOLDER_FILES)
        return next((file for file in found if os.path.isfile(file)), self.path / FOLDER_FILES[0])

    def problems(self) -> list[str]:
        """What is wrong with it before its file is opened, each with its fix."""
        found = []
        if not os.path.isfile(self.file()):
            found.append(
                f"{self.path}: expected a LoRA's file, or a folder with {FOLDER_FILES[0]}, got neither; check the "
                "path, and give the weight as a number behind the last colon"
            )
        if not abs(self.weight) <= LARGEST_WEIGHT:
            found.append(
                f"{self.path}: expected a weight between -{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}, got {self.weight}"
            )
        return found


def parse_lora(text: str) -> LoraChoice:
    """`detail.safetensors:0.8`, or a path alone for a weight of 1. Raises InputError for a weight that is no number."""
    path, colon, last = text.rpartition(":")
    if not colon or "/" in last or "\\" in last or (len(path) == 1 and not _is_number(last)):
        return LoraChoice(Path(text))
    if not path or not _is_number(last):
        raise InputError(f"{text}: expected PATH or PATH:WEIGHT with a number as the weight, got {last!r}")
    return LoraChoice(Path(path), float(last))


def choice_problems(choices: Iterable[LoraChoice]) -> list[str]:
    """The problems of all."""
    return [problem for choice in choices for problem in choice.problems()]


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) and text == text.strip()
    except ValueError:
        return False
