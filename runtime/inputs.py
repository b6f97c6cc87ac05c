"""What a caller gives, as a plan describes it: each input fills named slots before the first graph runs.

A slot holds one row for each side of the guidance, [unconditional, conditional], or a single row that both share.
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


@dataclass(frozen=True, slots=True)
class PictureInput:
    """How the caller's picture becomes pixels, float32 [n, 3, size, size], normalised as CLIP's are.

    "subject" takes one picture and its mask, squashed to a square: slots `subject_pixels`, `object_pixels` (black
    outside the mask) and `mask` [1, grid * grid], one value for each of the encoder's patches. "image" takes one or
    more pictures, cropped to a square: slot `image_pixels`. The kind is also the option's name.
    """

    kind: Literal["subject", "image"]
    size: int
    grid: int = 0

    def slots(self) -> tuple[str, ...]:
        return ("subject_pixels", "object_pixels", "mask") if self.kind == "subject" else ("image_pixels",)


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
