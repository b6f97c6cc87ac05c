"""Token ids to text, through a `tokenizer.json`."""

from itertools import groupby
from pathlib import Path

import tokenizers

from ..files.reading import read_text
from .tokenizer import TOKENIZER_BYTES, tokenizers_edge

JOINED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What loses its blanks where a text is tidied, in this order."""


class Detokenizer:
    """Decodes ids: `dropped` ones are left out, those without a piece become `unknown`. Special tokens are written.

    With `tidy` punctuation and short forms join the word before them, as in transformers' `clean_up_tokenization`.
    Raises InputError for a file that is no tokenizer.
    """

    def __init__(self, path: Path, dropped: tuple[int, ...] = (), unknown: str = "", tidy: bool = False):
        text = read_text(path, str(path), "a tokenizer.json", TOKENIZER_BYTES)
        with tokenizers_edge(f"{path}: expected a tokenizer.json"):
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        self._path, self._dropped, self._unknown = path, frozenset(dropped), unknown
        self._joined = JOINED if tidy else ()

    def __call__(self, ids: list[int]) -> str:
        """The text of a row of ids. Pieces are decoded together, for a letter may have several."""
        kept = [number for number in ids if number not in self._dropped]
        parts = []
        for known, run in groupby(kept, self._has_piece):
            found = list(run)
            parts.append(self._decoded(found) if known else self._unknown * len(found))
        text = "".join(parts)
        for apart in self._joined:
            text = text.replace(apart, apart.strip())
        return text

    def _has_piece(self, number: int) -> bool:
        return number >= 0 and self._tokenizer.id_to_token(number) is not None

    def _decoded(self, ids: list[int]) -> str:
        with tokenizers_edge(f"{self._path}: expected a tokenizer that writes every id"):
            return self._tokenizer.decode(ids, skip_special_tokens=False)
