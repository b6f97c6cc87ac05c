"""The gate at export: what fp32 draws goes into the bundle, what the bundle draws is measured against it,
and how far it may be."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from x2i.runtime.bundle.manifest import Precision
from x2i.runtime.commands.progress import track
from x2i.runtime.gate.cases import draw_case, store_drawing, write_case
from x2i.runtime.gate.comparison import compare
from x2i.runtime.gate.record import Case, Closeness, Gate, Judged, Limits
from x2i.runtime.pipeline import Pipeline

from .errors import GateError

LIMITS: dict[Precision, Limits] = {
    # Another library's order of sums: below a tenth of this.
    "fp32": Limits(0.01, 45.0, 0.99, 0.999),
    "fp16": Limits(0.02, 40.0, 0.98, 0.99),
    "bf16": Limits(0.05, 36.0, 0.97, 0.98),
    "int8": Limits(0.20, 28.0, 0.93, 0.90),
    "int8+fp16": Limits(0.20, 28.0, 0.93, 0.90),
    "int8-weights": Limits(0.20, 22.0, 0.93, 0.95),
    "int4-weights": Limits(0.40, 18.0, 0.70, 0.80),
}
"""Measured on the embedded models with ONNX Runtime on a CPU, the worst run of each: latents, PSNR, SSIM.

Runs that their judge knows, 4 of 20 steps:
              fp16                    int8                    int8+fp16               another seed, fp32
gluegen-text  0.05 %  64.2 dB  1.000  3.8 %  37.5 dB  0.988   4.0 %  36.4 dB  0.991   4.4 %  36.8 dB  0.990
sd            0.05 %  63.8 dB  1.000  4.2 %  37.5 dB  0.979   4.4 %  36.2 dB  0.979   4.5 %  36.8 dB  0.989
elite         0.13 %  60.4 dB  1.000  4.9 %  34.2 dB  0.961   5.3 %  32.7 dB  0.959   71 %   9.7 dB   0.268
fastcomposer  0.08 %  61.2 dB  1.000  2.2 %  39.9 dB  0.995   2.3 %  39.9 dB  0.994   35 %   16.3 dB  0.615
gluegen-sound 0.06 %  63.0 dB  1.000  3.9 %  33.4 dB  0.985   not measured            4.4 %  36.8 dB  0.987

Default cases, 8 steps, of which these models know little: fp16 up to 0.24 %, 58.3 dB, of a sound that is no word 1.9 %,
41.3 dB; int8 up to 8.6 %, 34.2 dB; int8+fp16 up to 13.7 %, 30.5 dB, 0.968. Of such a sound either int8 draws another
picture, and is refused.

Models that know their pictures by heart draw nearly the same from every seed, so that within int8's limits a judge has
to tell more. Another prompt makes 48 % and 15.6 dB at least.

int8-weights and int4-weights: default cases with every encoder weight stored so, which a bundle does with large ones
only: 8 bits 3 % to 14 %, 40.8 to 23.9 dB, 0.997 to 0.955; 4 bits 22 % to 33 %, 25.2 to 19.4 dB, 0.929 to 0.716, and
past the limits for gluegen-text, 55 %.
"""


def limits_of(precisions: Iterable[Precision]) -> Limits:
    """The limits of a bundle whose graphs have these precisions: of each figure the widest."""
    found = [LIMITS[precision] for precision in precisions]
    return Limits(
        max(limits.latents for limits in found),
        min(limits.psnr for limits in found),
        min(limits.ssim for limits in found),
        min(limits.tokens for limits in found),
    )


def draw_references(
    pipeline: Pipeline, folder: Path, runs: Sequence[dict[str, Any]], gives_picture: bool = True
) -> tuple[Case, ...]:
    """Draws every case with fp32 and writes `gate/<n>/` below `folder`: its inputs, its noise, latents and picture, or
    the tokens after each step.

    `runs` are options as a Pipeline takes them, with pictures and sounds in memory and for latents the start noise
    under `noise`, float32 [1, C, h, w]. Raises GateError for a picture of one colour, which would tell nothing.
    """
    cases = tuple(write_case(folder, number, options, gives_picture) for number, options in enumerate(runs))
    for number, case in enumerate(track(cases, "fp32 pictures", unit="run")):
        drawn = draw_case(pipeline, case, folder)
        if drawn.picture is not None and np.ptp(drawn.picture, axis=(0, 1)).max() == 0:
            raise GateError(f"case {number}: fp32 draws a single colour, which no picture can be compared with")
        store_drawing(drawn, case, folder)
    return cases


def measure_gate(
    pipeline: Pipeline,
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
    results = list(track(compare(pipeline, cases, limits, folder), "gate", len(cases), "run"))
    drawn = [result.closeness for result in results if result.closeness is not None]
    problems = [problem for result in results for problem in result.problems] + judges_problems(judged)
    if len(drawn) < len(results) or not all(np.isfinite(closeness.latents or 0) for closeness in drawn):
        raise GateError(*problems)
    if problems and not accept:
        fix = "choose a higher precision, keep more parts in fp32, or accept the loss"
        raise GateError(*problems, f"nothing was written; {fix}")
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
    """The worst of each figure over all cases, None where no case has it; PSNR is None only where every picture is the
    same."""

    def measures(name: str) -> list[float]:
        return [value for closeness in measured if (value := getattr(closeness, name)) is not None]

    return Closeness(
        max(measures("latents"), default=None),
        min(measures("psnr"), default=None),
        min(measures("ssim"), default=None),
        min(measures("tokens"), default=None),
    )
