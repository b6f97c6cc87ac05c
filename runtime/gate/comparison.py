"""Draws the gate's cases and compares each with what fp32 drew from the same noise."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import reason
from ..media.pictures import open_picture
from ..output import Output
from .metrics import psnr, relative_l2, ssim
from .record import Case, Closeness, Limits

Draw = Callable[..., Output]
"""A Pipeline, or whatever takes a run's options as one does."""
OWN = ("noise", "latents", "picture", "rate")
PICTURES = ("subject", "mask")
SEVERAL = ("image", "subjects")


@dataclass(frozen=True, slots=True)
class Drawing:
    """`latents` float32 [1, C, h, w] and `picture` uint8 [H, W, 3]."""

    latents: np.ndarray
    picture: np.ndarray


def draw(pipeline: Draw, case: Case, folder: Path) -> Drawing:
    """Runs a case whose files lie below `folder`; raises InputError where it cannot be drawn."""
    output = pipeline(**options(case, folder))
    return Drawing(output.latents, np.asarray(output.images[0]))


def stored(case: Case, folder: Path) -> Drawing:
    """What fp32 drew."""
    return Drawing(_array(folder / case.latents), np.asarray(open_picture(folder / case.picture, "gate").image))


def options(case: Case, folder: Path) -> dict[str, Any]:
    """What `Pipeline` takes for a case; what the case leaves alone is left out."""
    given = {
        field.name: value
        for field in fields(Case)
        if field.name not in OWN and (value := getattr(case, field.name)) != field.default
    }
    given |= {name: folder / given[name] for name in PICTURES if name in given}
    given |= {name: [folder / file for file in given[name]] for name in SEVERAL if name in given}
    if case.sound is not None:
        given["sound"] = _array(folder / case.sound), case.rate
    return given | {"noise": _array(folder / case.noise)}


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected an array of the gate, got {reason(error)}; export the bundle again"
        ) from error


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
        return not self.problems


def compare(pipeline: Draw, cases: Sequence[Case], limits: Limits, folder: Path) -> Iterator[CaseResult]:
    """Draws one case after the other; their files lie below `folder`.

    Raises InputError where the stored files are no reference for what the bundle draws.
    """
    for number, case in enumerate(cases):
        expected = stored(case, folder)
        try:
            drawn = draw(pipeline, case, folder)
        except InputError as error:
            yield CaseResult(number, case, None, tuple(f"case {number}: {problem}" for problem in error.problems))
            continue
        closeness = closeness_of(drawn, expected)
        yield CaseResult(number, case, closeness, past_limits(closeness, limits, number))


def closeness_of(drawn: Drawing, expected: Drawing) -> Closeness:
    signal = psnr(drawn.picture, expected.picture)
    latents = relative_l2(drawn.latents, expected.latents)
    return Closeness(latents, None if math.isinf(signal) else signal, ssim(drawn.picture, expected.picture))


def past_limits(closeness: Closeness, limits: Limits, number: int) -> tuple[str, ...]:
    """One line for every limit that a case is past."""
    problems = []
    if not math.isfinite(closeness.latents):
        problems.append("latents are not finite; the picture is none")
    elif not closeness.latents <= limits.latents:
        problems.append(
            f"latents differ by {closeness.latents:.2%} of fp32's, at most {limits.latents:.2%} are allowed"
        )
    if closeness.psnr is not None and not closeness.psnr >= limits.psnr:
        problems.append(f"PSNR of the picture is {closeness.psnr:.1f} dB, at least {limits.psnr:.1f} dB are asked")
    if not closeness.ssim >= limits.ssim:
        problems.append(f"SSIM of the picture is {closeness.ssim:.3f}, at least {limits.ssim:.3f} is asked")
    return tuple(f"case {number}: {problem}" for problem in problems)
