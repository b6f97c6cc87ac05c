"""The gate at export: what fp32 draws goes into the bundle, and what the bundle draws is measured against it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from x2i.runtime.bundle import Bundle
from x2i.runtime.gate.comparison import compare
from x2i.runtime.gate.drawing import Draw, draw
from x2i.runtime.gate.record import Case, Closeness, Gate, Judged, Limits

from .errors import GateError
from .gate_files import write_case

Judge = Callable[[Bundle, Bundle], Judged]
"""Says what fp32 and a bundle of lower precision draw at the same seeds."""


def draw_references(pipeline: Draw, folder: Path, asked: Sequence[dict[str, Any]]) -> tuple[Case, ...]:
    """Draws every case with fp32 and writes `gate/<n>/` below `folder`: its inputs, its noise, latents and picture.

    `asked` are options as a Pipeline takes them, with pictures and sounds in memory and the start noise under `noise`,
    float32 [1, C, h, w]. Raises GateError for a picture of one colour, which would tell nothing.
    """
    cases = tuple(write_case(folder, number, options) for number, options in enumerate(asked))
    for number, case in enumerate(cases):
        drawn = draw(pipeline, case, folder)
        if np.ptp(drawn.picture, axis=(0, 1)).max() == 0:
            raise GateError(f"case {number}: fp32 draws a single colour, which no picture can be compared with")
        np.save(folder / case.latents, drawn.latents)
        Image.fromarray(drawn.picture).save(folder / case.picture)
    return cases


def measure(
    pipeline: Draw,
    folder: Path,
    cases: Sequence[Case],
    limits: Limits,
    judged: Judged | None = None,
    accept: bool = False,
) -> Gate:
    """Draws every case with the bundle and compares it with the references below `folder`.

    Raises GateError with a line for every problem; with `accept` they go into the record instead, except that what
    cannot be drawn at all is never accepted.
    """
    results = list(compare(pipeline, cases, limits, folder))
    drawn = [result.closeness for result in results if result.closeness is not None]
    problems = [problem for result in results for problem in result.problems] + judges_problems(judged)
    if len(drawn) < len(results) or not all(np.isfinite(closeness.latents) for closeness in drawn):
        raise GateError("\n".join(problems))
    if problems and not accept:
        fix = "choose a higher precision, keep more parts in fp32, or accept the loss"
        raise GateError("\n".join([*problems, f"nothing was written; {fix}"]))
    return Gate(tuple(cases), limits, tuple(drawn), judged, tuple(problems))


def judges_problems(judged: Judged | None) -> list[str]:
    """One line where the judge names too few drawings."""
    if judged is None or judged.passed:
        return []
    return [
        f"judge: {judged.lost:.1f} points of accuracy are lost over {judged.drawings} drawings, "
        f"at most {judged.within:.1f} are allowed"
    ]


def worst(measured: Sequence[Closeness]) -> Closeness:
    """The worst of each figure over all cases; PSNR is None only where every picture is the same."""
    signals = [closeness.psnr for closeness in measured if closeness.psnr is not None]
    return Closeness(
        max(closeness.latents for closeness in measured),
        min(signals) if signals else None,
        min(closeness.ssim for closeness in measured),
    )
