"""Compares what a bundle draws with what fp32 drew from the same noise, case by case."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..pipeline import Pipeline
from .cases import Drawing, draw_case, stored_drawing
from .metrics import equal_share, psnr, relative_l2, ssim
from .record import Case, Closeness, Limits


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case on this machine: its number, how close it came (None where nothing could be drawn), and `problems`, one
    line for each limit it is past or reason why nothing was drawn."""

    number: int
    case: Case
    closeness: Closeness | None
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no limit is passed and something was drawn."""
        return not self.problems


def compare(pipeline: Pipeline, cases: Sequence[Case], limits: Limits, folder: Path) -> Iterator[CaseResult]:
    """Draws one case after the other; their files lie below `folder`.

    Raises InputError where the stored files are no reference for what the bundle draws.
    """
    for number, case in enumerate(cases):
        expected = stored_drawing(case, folder)
        try:
            drawn = draw_case(pipeline, case, folder, expected.states)
        except InputError as error:
            yield CaseResult(number, case, None, tuple(f"case {number}: {problem}" for problem in error.problems))
            continue
        closeness = closeness_of(drawn, expected)
        yield CaseResult(number, case, closeness, past_limits(closeness, limits, number))


def closeness_of(drawn: Drawing, expected: Drawing) -> Closeness:
    """How close one drawing is to another of the same size."""
    latents = tokens = signal = likeness = None
    if drawn.latents is not None and expected.latents is not None:
        latents = relative_l2(drawn.latents, expected.latents)
    if drawn.states is not None and expected.states is not None:
        tokens = equal_share(drawn.states, expected.states)
    if drawn.picture is not None and expected.picture is not None:
        signal, likeness = psnr(drawn.picture, expected.picture), ssim(drawn.picture, expected.picture)
    return Closeness(latents, None if signal is None or math.isinf(signal) else signal, likeness, tokens)


def past_limits(closeness: Closeness, limits: Limits, number: int) -> tuple[str, ...]:
    """One line for every limit that a case is past."""
    problems = []
    if closeness.tokens is not None and not closeness.tokens >= limits.tokens:
        problems.append(
            f"{closeness.tokens:.2%} of the tokens are fp32's after a step from its state, at least "
            f"{limits.tokens:.2%} are asked"
        )
    if closeness.latents is not None and not math.isfinite(closeness.latents):
        problems.append("latents are not finite; the picture is none")
    elif closeness.latents is not None and not closeness.latents <= limits.latents:
        problems.append(
            f"latents differ by {closeness.latents:.2%} of fp32's, at most {limits.latents:.2%} are allowed"
        )
    if closeness.psnr is not None and not closeness.psnr >= limits.psnr:
        problems.append(f"PSNR of the picture is {closeness.psnr:.1f} dB, at least {limits.psnr:.1f} dB are asked")
    if closeness.ssim is not None and not closeness.ssim >= limits.ssim:
        problems.append(f"SSIM of the picture is {closeness.ssim:.3f}, at least {limits.ssim:.3f} is asked")
    return tuple(f"case {number}: {problem}" for problem in problems)
