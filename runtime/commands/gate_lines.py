"""How the gate's results are told, as lines and as JSON."""

import math
from dataclasses import asdict
from typing import Any

from ..gate.comparison import CaseResult
from ..gate.record import Case, Closeness, Limits


def limits_line(limits: Limits) -> str:
    return (
        f"drawings against fp32's: latents within {limits.latents:.2%}, "
        f"PSNR from {limits.psnr:.1f} dB, SSIM from {limits.ssim:.3f}"
    )


def case_line(result: CaseResult) -> str:
    """One line, and one for every problem."""
    verdict = "ok" if result.passed else "FAILED"
    measured = "not drawn" if result.closeness is None else closeness_text(result.closeness)
    return "\n".join([f"{verdict}  case {result.number}, {_asked(result.case)}: {measured}", *_indented(result)])


def closeness_text(closeness: Closeness) -> str:
    signal = "the same picture" if closeness.psnr is None else f"PSNR {closeness.psnr:.1f} dB"
    return f"latents {closeness.latents:.2%}, {signal}, SSIM {closeness.ssim:.3f}"


def case_json(result: CaseResult) -> dict[str, Any]:
    """`psnr` is null for the same picture, and all three are where nothing was drawn."""
    measured = {} if result.closeness is None else asdict(result.closeness)
    figures = {name: finite(measured.get(name)) for name in ("latents", "psnr", "ssim")}
    asked = {"prompt": result.case.prompt, "language": result.case.language, "seed": result.case.seed}
    return {"number": result.number, **asked, **figures, "problems": list(result.problems)}


def finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _asked(case: Case) -> str:
    parts = [case.language, None if case.prompt is None else repr(case.prompt)]
    return ", ".join([*(part for part in parts if part), f"seed {case.seed}"])


def _indented(result: CaseResult) -> list[str]:
    return [f"        {problem}" for problem in result.problems]
