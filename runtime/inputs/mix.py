"""The mix of a sound's context with a prompt's (GlueGen, arXiv 2303.10056)."""

from dataclasses import dataclass

import numpy as np

MIX = 5
"""How many tokens each keeps when the caller says nothing; the authors draw with 3 to 7."""


@dataclass(frozen=True, slots=True)
class MixInput:
    """Where the context of another bundle's prompt is mixed into this one's: slot `slot`, [B, tokens, D], changes.

    Source: GlueGen's script for sound and text (arXiv 2303.10056).
    """

    slot: str
    tokens: int

    def slots(self) -> tuple[str, ...]:
        return ()

    def options(self) -> tuple[str, ...]:
        return ("mix",)


def mixed(sound: np.ndarray, text: np.ndarray, keep: int) -> np.ndarray:
    """Two contexts [B, tokens, D] in one: `keep` tokens of the sound's, `keep` of the text's, then the mean of both.

    The unconditional side is the text's alone. Source: GlueGen's script for sound and text (arXiv 2303.10056).
    """
    assert sound.shape[1:] == text.shape[1:], (sound.shape, text.shape)
    conditional, spoken = sound[-1:], text[-1:]
    rest = (conditional[:, 2 * keep :] + spoken[:, 2 * keep :]) / 2
    return np.concatenate([text[:-1], np.concatenate([conditional[:, :keep], spoken[:, :keep], rest], 1)])
