"""What devices can do at most, as their makers publish it: dense rates, never those for sparse weights."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int8", "fp16", "fp32"]

TERA, GIGA, MEGA = 1e12, 1e9, 1e6


@dataclass(frozen=True, slots=True)
class Device:
    """Operations a second by the type of what is multiplied, bytes a second to and from memory, and memory in bytes.

    A multiplication with its addition is two operations. `cache` is on-chip memory, at most: what fits may never leave
    it. `shared` memory is also the system's and the programs'.
    """

    title: str
    rates: dict[Kind, float]
    bandwidth: float
    memory: float
    cache: float
    shared: bool
    source: str


def _orin(title: str, int8: float, bandwidth: float, gigabytes: int, source: str) -> Device:
    """An Orin: its tensor cores do float16 at half the rate of int8, and float32 (as TF32) at half of that.

    The rates are the GPU's alone; what the data sheets add for the deep-learning accelerators is left out.
    """
    rates: dict[Kind, float] = {"int8": int8 * TERA, "fp16": int8 * TERA / 2, "fp32": int8 * TERA / 4}
    return Device(title, rates, bandwidth * GIGA, gigabytes * GIGA, 8 * MEGA, True, source)


def _ada(title: str, rates: dict[Kind, float], bandwidth: float, gigabytes: int, cache: float, source: str) -> Device:
    """A GeForce of the Ada kind; float16 at the rate of float16 sums, which is the higher one."""
    tera: dict[Kind, float] = {kind: rate * TERA for kind, rate in rates.items()}
    return Device(title, tera, bandwidth * GIGA, gigabytes * GIGA, cache * MEGA, False, source)


ORIN_NANO = "NVIDIA Jetson Orin Nano Series data sheet: 40 TOPS sparse, 20 dense; 68 GB/s"
ORIN_SUPER = "NVIDIA on the Orin Nano Super developer kit: 67 TOPS sparse, 33 dense, 17 TFLOPS float16; 102 GB/s"
ORIN_NX = (
    "NVIDIA Jetson Orin NX Series data sheet: GPU's share of {total} TOPS is {sparse} sparse, half dense; 102.4 GB/s"
)
AGX_ORIN = "NVIDIA Jetson AGX Orin Series data sheet: GPU {sparse} TOPS sparse, half dense; 204.8 GB/s"
ADA = "NVIDIA Ada GPU architecture white paper; dense, float16 with float16 sums"

DEVICES = {
    "orin-nano-8gb": _orin("Jetson Orin Nano 8 GB, 15 W", 20, 68, 8, ORIN_NANO),
    "orin-nano-super": _orin("Jetson Orin Nano 8 GB, Super, 25 W", 34, 102, 8, ORIN_SUPER),
    "orin-nx-8gb": _orin("Jetson Orin NX 8 GB, 20 W", 25, 102.4, 8, ORIN_NX.format(total=70, sparse=50)),
    "orin-nx-16gb": _orin("Jetson Orin NX 16 GB, 25 W", 30, 102.4, 16, ORIN_NX.format(total=100, sparse=60)),
    "agx-orin-32gb": _orin("Jetson AGX Orin 32 GB, 40 W", 54, 204.8, 32, AGX_ORIN.format(sparse=108)),
    "agx-orin-64gb": _orin("Jetson AGX Orin 64 GB, 60 W", 85, 204.8, 64, AGX_ORIN.format(sparse=170)),
    "rtx-4090": _ada("GeForce RTX 4090", {"int8": 660.6, "fp16": 330.3, "fp32": 82.6}, 1008, 24, 72, ADA),
}
"""By name on the command line. 33 TOPS of the Super are 34 here, twice its published float16 rate: a bound errs high.
In their Super modes the Orin NX are faster than here."""
