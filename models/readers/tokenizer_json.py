"""Tokenizers as one JSON text of the `tokenizers` library: from whichever files, or with one token a byte."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from .weights_folder import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer of a tokenizer.json; raises CheckpointError where the file is damaged or of an unknown kind."""
    from tokenizers import Tokenizer

    content = json.dumps(read_json(path))
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(
            f"{path}: expected a tokenizer of the `tokenizers` library, got {error}; "
            "fix: give the original file, or install a newer `tokenizers`"
        ) from error


def serialized(tokenizer: "Tokenizer") -> str:
    """The JSON text, without truncation and padding: the window's length is the exporter's knowledge."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def absent(folder: Path, *files: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: expected {' or '.join(files)}, got neither; fix: put the tokenizer's files there"
    )
