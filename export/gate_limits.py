"""How far from fp32 a bundle may draw, by its precision."""

from collections.abc import Iterable

from x2i.runtime.gate.record import Limits
from x2i.runtime.manifest import Precision

LIMITS: dict[Precision, Limits] = {
    # Another library's order of sums: below a tenth of this.
    "fp32": Limits(0.01, 45.0, 0.99),
    "fp16": Limits(0.02, 40.0, 0.98),
    "int8": Limits(0.15, 30.0, 0.95),
    "int8+fp16": Limits(0.15, 30.0, 0.95),
    "int8-weights": Limits(0.20, 22.0, 0.93),
    "int4-weights": Limits(0.40, 18.0, 0.70),
}
"""Measured with the default cases on the embedded models, the worst case of each (latents, PSNR, SSIM):

fp16: gluegen-text 0.12 %, 58.7 dB, 1.000; sd 0.24 %, 58.3; elite 0.14 %, 59.8; fastcomposer 0.10 %, 60.8.
int8: gluegen-text 4.2 %, 37.1, 0.988; sd 8.6 %, 34.2, 0.981; elite 6.0 %, 35.8, 0.979; fastcomposer 4.8 %, 37.0, 0.987.
int8+fp16: gluegen-text 4.1 %, 37.5, 0.988.
int8-weights, of every encoder weight however small: sd 8 %, 34.6, 0.987; gluegen-text 14 %, 23.9, 0.955; elite 3 %,
40.8, 0.997; fastcomposer 9 %, 30.0, 0.986.
int4-weights, likewise: sd 22 %, 25.2, 0.929; elite 26 %, 22.7, 0.779; fastcomposer 33 %, 19.4, 0.716. Weights this
small keep their precision in a bundle; gluegen-text with them, 55 %, is past the limit, and draws other pictures.

Another prompt makes 48 % to 200 % and 4 to 16 dB, another seed 27 % to 36 % and 19 to 22 dB (fastcomposer, sound). Only
gluegen-text, which knows its pictures by heart, draws nearly the same from another seed: 5 % to 8 %, 33 to 36 dB.
"""


def limits_of(precisions: Iterable[Precision]) -> Limits:
    """The limits of a bundle whose graphs have these precisions: of each figure the widest."""
    found = [LIMITS[precision] for precision in precisions]
    return Limits(
        max(limits.latents for limits in found),
        min(limits.psnr for limits in found),
        min(limits.ssim for limits in found),
    )
