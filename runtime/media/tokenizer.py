"""Prompts to token ids, through a `tokenizer.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import tokenizers

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Tokens:
    """`input_ids` and `attention_mask`, int64 [B, window]; `cut[i]` is the text of prompt i that did not fit ("")."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    cut: tuple[str, ...]


class Tokenizer:
    """Encodes prompts into a fixed window: special tokens added, cut before the closing one, padded behind it.

    `window` counts tokens, `pad_id` fills what is left of it. Raises InputError for a file that is no tokenizer.
    """

    def __init__(self, path: Path, window: int, pad_id: int):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception and nothing narrower
            raise InputError(f"{path}: expected a tokenizer.json, got {error}; export the bundle again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.window, self.pad_id = window, pad_id

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
        """The ids of B prompts, each in a window of its own."""
        ids = np.full((len(prompts), self.window), self.pad_id, np.int64)
        mask = np.zeros((len(prompts), self.window), np.int64)
        cut = []
        for row, prompt in enumerate(prompts):
            encoding = self._tokenizer.encode(prompt)
            kept, rest = self._fit(encoding, prompt)
            ids[row, : len(kept)], mask[row, : len(kept)] = kept, 1
            cut.append(rest)
        return Tokens(ids, mask, tuple(cut))

    def _fit(self, encoding: tokenizers.Encoding, prompt: str) -> tuple[list[int], str]:
        """The ids that fit the window, still closed by the special token, and the text that was cut."""
        ids = encoding.ids
        if len(ids) <= self.window:
            return ids, ""
        first_cut = encoding.offsets[self.window - 1][0]
        return [*ids[: self.window - 1], ids[-1]], prompt[first_cut:].strip()


def is_text(value: object) -> TypeGuard[str]:
    """Whether a tokenizer takes it: half a surrogate, as from a terminal in another encoding, is no Unicode."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
