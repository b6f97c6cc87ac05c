"""What a caller gives, as a plan describes it: each input fills named slots before the first graph runs.

A slot holds one row for each side of the guidance, [unconditional, conditional], or a single row that both share.
`slots()` are the names it fills, `options()` those of a call's options that belong to it.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TextInput:
    """How a prompt becomes the slots `input_ids` and `attention_mask`, both int64 [B, window].

    `tokenizer` is a file of the bundle; a longer prompt is cut so that it still ends with the closing special token.
    """

    tokenizer: str
    window: int
    pad_id: int

    def slots(self) -> tuple[str, ...]:
        return ("input_ids", "attention_mask")

    def options(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class WordInput:
    """How a placeholder word becomes the slot `word_index`, int64 [B]: where in the window the embeddings in the slot
    `words`, [1, most, D], begin. The unconditional side has the window's length, which is nowhere.

    `default` is the word when the caller names none. Source: ELITE (arXiv 2302.13848).
    """

    default: str
    most: int

    def slots(self) -> tuple[str, ...]:
        return ("word_index",)

    def options(self) -> tuple[str, ...]:
        return ("word", "placement", "words", "global_only")


@dataclass(frozen=True, slots=True)
class MarkerInput:
    """A marker behind a noun of the prompt says that the noun is a subject; no marker reaches the encoder.

    With `marks` the ids of the prompt's conditioner are those the authors mark, and slot `object_index`, int64
    [B, window], numbers the subject at each token from 0, with -1 for none. Without it the prompt is read with the
    marker deleted, and no slot is filled. `default` is the marker when the caller names none.
    Source: FastComposer (arXiv 2305.10431).
    """

    default: str
    marks: bool

    def slots(self) -> tuple[str, ...]:
        return ("object_index",) if self.marks else ()

    def options(self) -> tuple[str, ...]:
        return ("marker",)


@dataclass(frozen=True, slots=True)
class PictureInput:
    """How the caller's picture becomes pixels, float32 [n, 3, size, size], normalised as CLIP's are.

    "subject" takes one picture and its mask, squashed to a square: slots `subject_pixels`, `object_pixels` (black
    outside the mask) and `mask` [1, grid * grid], one value for each of the encoder's patches. "image" takes one or
    more pictures, cropped to a square: slot `image_pixels`, [1, n, ...]. "subjects" takes one for each marked noun,
    padded to a square and brought to `resolution` first: slot `subjects_pixels`, [1, n, ...]. The kind is also the
    option's name.
    """

    kind: Literal["subject", "image", "subjects"]
    size: int
    grid: int = 0
    resolution: int = 0

    def slots(self) -> tuple[str, ...]:
        return ("subject_pixels", "object_pixels", "mask") if self.kind == "subject" else (f"{self.kind}_pixels",)

    def options(self) -> tuple[str, ...]:
        own = {"subject": ("mask", "soft_mask"), "image": (), "subjects": ("object_resolution",)}
        return (self.kind, *own[self.kind])


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


@dataclass(frozen=True, slots=True)
class Injection:
    """How strong a second attention is: slots `strength` float32 [B] and `token_index` int64 [B].

    `strength` is the default. `at_word` weights it by the attention the placeholder word gets, else it is the same
    everywhere. `unconditional` says whether the unconditional side has it as well.
    """

    strength: float
    at_word: bool
    unconditional: bool

    def slots(self) -> tuple[str, ...]:
        return ("strength", "token_index")

    def options(self) -> tuple[str, ...]:
        return ("strength",)


Input = TextInput | WordInput | MarkerInput | PictureInput | SoundInput | MixInput
"""What a conditioner takes."""
