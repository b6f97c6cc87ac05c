"""What is asked of `x2i tune`."""

from dataclasses import dataclass
from pathlib import Path

from .candidates import WAYS

QUALITY = 25.0
"""PSNR in dB: what differs is hard to see side by side, and another prompt or seed is far below it."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to look for a preset `name`, and what it must keep to.

    Every compared picture must come within `quality` (PSNR, dB) of the plain loop's from the same noise, and the
    `judge`, where one is named, must name as many drawings within 2 points. The plain loop has `steps` (the plan's
    unless given) and the plan's sampler. Presets differ from it in no other `ways`. With `like`, a bundle and its
    preset's name, that preset is measured and no other is tried. `runs` are timed of each loop, in turns. `accept`
    goes on past the limits; the preset tells.
    """

    name: str = "fast"
    quality: float = QUALITY
    steps: int | None = None
    size: tuple[int, int] | None = None
    backend: str | None = None
    threads: int | None = None
    judge: str | None = None
    ways: tuple[str, ...] = WAYS
    like: tuple[Path, str] | None = None
    runs: int = 3
    accept: bool = False

    def problems(self) -> list[str]:
        """One line for each, as far as they can be told without the bundle."""
        found = []
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            found.append(f"--name: expected letters, digits, - and _, got {self.name!r}")
        if not 0 < self.quality < 100:
            found.append(f"--quality: expected a PSNR in dB between 0 and 100, got {self.quality:g}")
        if unknown := [way for way in self.ways if way not in WAYS]:
            found.append(f"--way: expected {', '.join(WAYS)}, got {', '.join(unknown)}")
        if self.runs < 1:
            found.append(f"--runs: expected 1 or more, got {self.runs}")
        return found
