"""Drawings of the plain loop, and how close a preset comes to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.runtime.errors import InputError
from x2i.runtime.gate.comparison import closeness_of
from x2i.runtime.gate.drawing import Draw, Drawing
from x2i.runtime.gate.record import Closeness, Judged

Judge = Callable[[Draw], Judged]
"""Says what a preset draws beside what the plain loop drew."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How close a preset came: run by run as far as it was drawn, what the judge said, and `problem`, in one line."""

    measured: tuple[Closeness, ...] = ()
    judged: Judged | None = None
    problem: str | None = None


class Trial:
    """Compares with `plain`, which draws as the bundle does without a preset; `runs` are options of runs, `quality` is
    the PSNR (dB) that every picture must have."""

    def __init__(self, plain: Draw, runs: Sequence[dict[str, Any]], quality: float, judge: Judge | None = None):
        self._runs, self._quality, self._judge = runs, quality, judge
        self._references = [_drawn(plain, run) for run in runs]

    def first(self, draw: Draw) -> None:
        """Draws the first run, and compares nothing."""
        _drawn(draw, self._runs[0])

    def __call__(self, draw: Draw, thorough: bool = False) -> Verdict:
        """Ends at the first picture that is too far; if `thorough`, every one is drawn, and the judge always asked."""
        found: list[Closeness] = []
        problem: str | None = None
        for run, reference in zip(self._runs, self._references, strict=True):
            try:
                found.append(closeness_of(_drawn(draw, run), reference))
            except InputError as error:
                return Verdict(tuple(found), None, error.problems[0])
            signal = found[-1].psnr
            if signal is not None and not signal >= self._quality:
                problem = problem or f"PSNR {signal:.1f} dB, at least {self._quality:.1f} dB are asked"
                if not thorough:
                    break
        if (problem and not thorough) or self._judge is None:
            return Verdict(tuple(found), None, problem)
        said = self._judge(draw)
        if not said.passed:
            lost = f"the judge loses {said.lost:.1f} points, at most {said.within:.1f} are allowed"
            problem = problem or lost
        return Verdict(tuple(found), said, problem)


def _drawn(draw: Draw, options: dict[str, Any]) -> Drawing:
    output = draw(**options)
    return Drawing(output.latents, np.asarray(output.images[0]))
