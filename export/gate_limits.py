"""How far from fp32 a bundle may draw, by its precision."""

from collections.abc import Iterable

from x2i.runtime.gate.record import Limits
from x2i.runtime.manifest import Precision

LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(0.01, 40.0, 0.99),
    "fp16": Limits(0.05, 30.0, 0.95),
    "int8-weights": Limits(0.10, 25.0, 0.90),
    "int4-weights": Limits(0.30, 16.0, 0.70),
    "int8": Limits(0.30, 16.0, 0.70),
    "int8+fp16": Limits(0.30, 16.0, 0.70),
}


def limits_of(precisions: Iterable[Precision]) -> Limits:
    """The limits of a bundle whose graphs have these precisions: of each figure the widest."""
    found = [LIMITS[precision] for precision in precisions]
    return Limits(
        max(limits.latents for limits in found),
        min(limits.psnr for limits in found),
        min(limits.ssim for limits in found),
    )
