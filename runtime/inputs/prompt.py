"""The prompt: its place in a plan, and how it becomes token ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import tokenizers

from ..errors import InputError


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
class Tokens:
    """`input_ids` and `attention_mask`, int64 [B, window]; `cut[i]` is the text of prompt i that did not fit ("")."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    cut: tuple[str, ...]


class Tokenizer:
    """Encodes prompts into a fixed window: special tokens added, cut before the closing one, padded behind it."""

    def __init__(self, path: Path, text: TextInput):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception and nothing narrower
            raise InputError(f"{path}: expected a tokenizer.json, got {error}; export the bundle again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._text = text

    @property
    def window(self) -> int:
        return self._text.window

    @property
    def pad_id(self) -> int:
        return self._text.pad_id

    def ends(self) -> tuple[int, int]:
        """The special tokens that open and close every prompt."""
        opening, closing = self._tokenizer.encode("").ids
        return opening, closing

    def pieces(self, text: str) -> list[int]:
        """The ids of a part of a prompt, however many, without the special tokens around it."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Begin and end in the prompt of each of its tokens, before any is cut; special tokens added have (0, 0)."""
        return self._tokenizer.encode(prompt).offsets

    def __call__(self, prompts: list[str]) -> Tokens:
        window = self._text.window
        ids = np.full((len(prompts), window), self._text.pad_id, np.int64)
        mask = np.zeros((len(prompts), window), np.int64)
        cut = []
        for row, prompt in enumerate(prompts):
            encoding = self._tokenizer.encode(prompt)
            kept, rest = self._fit(encoding, prompt)
            ids[row, : len(kept)], mask[row, : len(kept)] = kept, 1
            cut.append(rest)
        return Tokens(ids, mask, tuple(cut))

    def _fit(self, encoding: tokenizers.Encoding, prompt: str) -> tuple[list[int], str]:
        """The ids that fit the window, still closed by the special token, and the text that was cut."""
        window, ids = self._text.window, encoding.ids
        if len(ids) <= window:
            return ids, ""
        first_cut = encoding.offsets[window - 1][0]
        return [*ids[: window - 1], ids[-1]], prompt[first_cut:].strip()


def is_text(value: object) -> TypeGuard[str]:
    """Whether a tokenizer takes it: half a surrogate, as from a terminal in another encoding, is no Unicode."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
