"""A sound that a plan takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SoundInput:
    """How the caller's sound becomes slot `waveform`, float32 [1, channels, frames] at `rate` Hz, in 16 bits' range.

    There are two channels at least: a single one is doubled.
    """

    rate: int
    frames: int

    def slots(self) -> tuple[str, ...]:
        return ("waveform",)

    def options(self) -> tuple[str, ...]:
        return ("sound",)
