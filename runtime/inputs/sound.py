"""A sound to draw, and a prompt's context mixed into its own (GlueGen, arXiv 2303.10056); a sound to begin with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np
from msgspec import Meta

from ..bundle.records import Window
from ..errors import InputError
from ..media.sound_files import SoundSource
from ..media.waveform import open_mono, open_waveform
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, is_count, is_number, options_of, short
from .pictures.options import StrengthOptions

MIX = 5
"""How many tokens each keeps when the caller says nothing; the authors draw with 3 to 7."""


class SoundOptions(TypedDict, total=False):
    """What is heard."""

    sound: Annotated[SoundSource | None, Option("sound", "Sound file to draw, or music to begin with.")]


@dataclass(frozen=True, slots=True)
class SoundInput:
    """How the caller's sound becomes slot `waveform`, float32 [1, channels, frames] at `rate` Hz, in 16 bits' range.

    There are two channels at least: a single one is doubled.
    """

    KEY: ClassVar[str] = "sound"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(SoundOptions)

    rate: Annotated[int, Meta(ge=1, le=10**6)]
    frames: Annotated[int, Meta(ge=1, le=10**8)]

    def slots(self) -> tuple[str, ...]:
        return ("waveform",)

    def describe(self) -> str:
        return f"sound, {self.frames / self.rate:g} s at {self.rate} Hz"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        if call.values["sound"] is None:
            raise InputError("sound: expected a sound, which this bundle draws from, got none; give sound")
        waveform = open_waveform(call.values["sound"], self.rate, self.frames)
        made.slots["waveform"] = waveform.samples
        made.notes += waveform.notes

    def stand_in(self) -> dict[str, Any]:
        """Noise of both channels, as long as what is heard."""
        return {"sound": (np.random.default_rng(0).normal(0, 0.2, (self.frames, 2)), self.rate)}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"waveform": (1, call.channels, self.frames)}


@dataclass(frozen=True, slots=True)
class SoundStart:
    """A sound that a walk through a sound's tokens begins with, as the slot `start_waveform`, float32 [1, frames] at
    `rate` Hz: one channel, as loud as it is, cut or followed by silence. It may be left out.

    A graph of its conditioner makes `start_tokens` of it; `strength`, the share of the timesteps that are walked from
    there, is the sampler's to read.
    """

    KEY: ClassVar[str] = "sound_start"
    OPTIONS: ClassVar[tuple[Option, ...]] = (*options_of(SoundOptions), *options_of(StrengthOptions))

    rate: Annotated[int, Meta(ge=1, le=10**6)]
    frames: Annotated[int, Meta(ge=1, le=10**8)]

    def slots(self) -> tuple[str, ...]:
        return ("start_waveform",)

    def describe(self) -> str:
        return f"sound to begin with, {self.frames / self.rate:g} s at {self.rate} Hz, which may be left out"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        sound, strength = call.values["sound"], call.values["strength"]
        if sound is None and strength is not None:
            raise InputError("strength: expected a sound to begin with, got none; give sound, or leave strength out")
        if sound is None:
            return
        if not is_number(strength) or not 0 < strength <= 1:
            made.problems.append(f"strength: expected a number above 0, up to 1, got {short(strength)}; try 0.1")
        waveform = open_mono(sound, self.rate, self.frames)
        made.slots["start_waveform"] = waveform.samples
        made.notes += waveform.notes

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"start_waveform": (1, self.frames)}


class MixOptions(TypedDict, total=False):
    """How a prompt is mixed in."""

    mix: Annotated[
        int | None,
        Option(
            "count",
            f"Tokens that sound and prompt each keep at the front, {MIX} if left out.",
            checked_by_input=True,
            stored=False,
        ),
    ]


@dataclass(frozen=True, slots=True)
class MixInput:
    """Where the context of another bundle's prompt is mixed into this one's: slot `slot`, [B, tokens, D], changes.

    Source: GlueGen's script for sound and text (arXiv 2303.10056).
    """

    KEY: ClassVar[str] = "mix"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(MixOptions)

    slot: str
    tokens: Window

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return f"{self.slot}, mixed with a text bundle's where a prompt is given"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        mix, most = call.values["mix"], self.tokens // 2
        if mix is not None and not call.mixes:
            made.problems.append(
                "mix: expected a prompt and a text bundle of the same base to mix the sound with, got only the sound; "
                "give both, or leave mix out"
            )
        if mix is not None and not is_count(mix, most):
            made.problems.append(
                f"mix: expected a whole number of tokens from 1 to {most}, got {short(mix)}; the authors take 3 to 7"
            )

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}


def mixed(sound: np.ndarray, text: np.ndarray, keep: int) -> np.ndarray:
    """Two contexts [B, tokens, D] in one: `keep` tokens of the sound's, `keep` of the text's, then the mean of both.

    The unconditional side is the text's alone. Source: GlueGen's script for sound and text (arXiv 2303.10056).
    """
    assert sound.shape[1:] == text.shape[1:], (sound.shape, text.shape)
    conditional, spoken = sound[-1:], text[-1:]
    rest = (conditional[:, 2 * keep :] + spoken[:, 2 * keep :]) / 2
    return np.concatenate([text[:-1], np.concatenate([conditional[:, :keep], spoken[:, :keep], rest], 1)])
