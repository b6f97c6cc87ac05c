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


def _orin(title: str, int8: float, fp32: float, bandwidth: float, gigabytes: int, source: str) -> Device:
    """An Orin: its tensor cores do float16 at half the rate of int8, its CUDA cores float32 at two operations a clock.

    The rates are the GPU's alone; what the data sheets add for the deep-learning accelerators is left out. float32
    could also run as TF32, faster and less exact: engines of `x2i build` switch that off.
    """
    rates: dict[Kind, float] = {"int8": int8 * TERA, "fp16": int8 * TERA / 2, "fp32": fp32 * TERA}
    return Device(title, rates, bandwidth * GIGA, gigabytes * GIGA, 8 * MEGA, True, source)


def _ada(title: str, rates: dict[Kind, float], bandwidth: float, gigabytes: int, cache: float, source: str) -> Device:
    """A GeForce of the Ada kind; float16 at the rate of float16 sums, which is the higher one."""
    tera: dict[Kind, float] = {kind: rate * TERA for kind, rate in rates.items()}
    return Device(title, tera, bandwidth * GIGA, gigabytes * GIGA, cache * MEGA, False, source)


NANO = "NVIDIA Jetson Orin Nano Series data sheet: 40 TOPS sparse, 20 dense; 1024 cores at 625 MHz; 68 GB/s"
SUPER = "NVIDIA on the Orin Nano Super: 33 TOPS dense, 17 TFLOPS float16; 1024 cores at 1020 MHz; 102 GB/s"
NX = "NVIDIA Jetson Orin NX Series data sheet: the GPU's {} TOPS sparse, half dense; 1024 cores at {} MHz; 102.4 GB/s"
AGX = "NVIDIA Jetson AGX Orin Series data sheet: the GPU's {} TOPS sparse, half dense; {} cores at {} MHz; 204.8 GB/s"
ADA = "NVIDIA Ada GPU architecture white paper: dense rates, float16 with float16 sums"
ADA_RATES: dict[Kind, float] = {"int8": 660.6, "fp16": 330.3, "fp32": 82.6}
DEVICES = {
    "orin-nano-8gb": _orin("Jetson Orin Nano 8 GB, 15 W", 20, 1.28, 68, 8, NANO),
    "orin-nano-super": _orin("Jetson Orin Nano 8 GB, Super, 25 W", 34, 2.09, 102, 8, SUPER),
    "orin-nx-8gb": _orin("Jetson Orin NX 8 GB, 20 W", 25, 1.57, 102.4, 8, NX.format(50, 765)),
    "orin-nx-16gb": _orin("Jetson Orin NX 16 GB, 25 W", 30, 1.88, 102.4, 16, NX.format(60, 918)),
    "agx-orin-32gb": _orin("Jetson AGX Orin 32 GB, 40 W", 54, 3.33, 204.8, 32, AGX.format(108, 1792, 930)),
    "agx-orin-64gb": _orin("Jetson AGX Orin 64 GB, 60 W", 85, 5.32, 204.8, 64, AGX.format(170, 2048, 1300)),
    "rtx-4090": _ada("GeForce RTX 4090", ADA_RATES, 1008, 24, 72, ADA),
}
"""By name on the command line. The Super's 33 TOPS are 34 here, twice its published float16 rate: a bound errs high.
In their Super modes the Orin NX are faster than here."""
