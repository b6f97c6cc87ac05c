"""What is asked of a bundle in lower precision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .precision.choice import PRECISIONS
from .precision.levels import check_level


@dataclass(frozen=True, slots=True)
class Lowering:
    """How to lower a bundle's precision, and how it is judged.

    `precision` maps graph names or patterns to precisions, "" stands for the bundle. `level` says which layers int8
    takes; `keep` names layers and parts that stay as they are. With `quality` the denoiser's most damaged layers are
    put back until the relative L2 of its noise is at most that. `calibration` is a file of runs, one JSON object per
    line; `steps` and `size` are those of runs that nobody spelled out: the calibration's, and the gate's. `accept` goes
    on where the gate fails. `judge` names a judge that knows what was asked ("emoji").
    """

    precision: Mapping[str, str] = field(default_factory=dict)
    level: float = 3
    keep: tuple[str, ...] = ()
    quality: float | None = None
    calibration: Path | None = None
    seed: int = 0
    steps: int | None = None
    size: tuple[int, int] | None = None
    judge: str | None = None
    accept: bool = False

    def problems(self) -> list[str]:
        """What can be told before there is a bundle, one line each."""
        found = [
            f"--precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}"
            for precision in self.precision.values()
            if precision not in PRECISIONS
        ]
        found += check_level(self.level)
        if self.quality is not None and not 0 < self.quality < 1:
            found.append(f"--quality: expected a relative error between 0 and 1, got {self.quality:g}")
        if self.calibration is not None and not self.calibration.is_file():
            found.append(f"--calibration: expected a file, one JSON object a line, found none at {self.calibration}")
        return found

    @property
    def lowers(self) -> bool:
        """Whether anything but fp32 is asked."""
        return any(precision != "fp32" for precision in self.precision.values())
