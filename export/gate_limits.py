"""How far from fp32 a bundle may draw, by its precision."""

from collections.abc import Iterable

from x2i.runtime.gate.record import Limits
from x2i.runtime.manifest import Precision

LIMITS: dict[Precision, Limits] = {
    # Another library's order of sums: below a tenth of this.
    "fp32": Limits(0.01, 45.0, 0.99),
    "fp16": Limits(0.02, 40.0, 0.98),
    "bf16": Limits(0.05, 36.0, 0.97),
    "int8": Limits(0.20, 28.0, 0.93),
    "int8+fp16": Limits(0.20, 28.0, 0.93),
    "int8-weights": Limits(0.20, 22.0, 0.93),
    "int4-weights": Limits(0.40, 18.0, 0.70),
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
    )
