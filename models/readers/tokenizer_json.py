"""Tokenizers as one JSON text of the `tokenizers` library, which is the form that a bundle holds them in."""

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
    except BaseException as error:  # the library raises nothing narrower, and Rust's own where that gives up
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise CheckpointError(
            f"{path}: expected a tokenizer of the `tokenizers` library, got {error}; "
            "fix: give the original file, or install a newer `tokenizers`"
        ) from error


def to_tokenizer_json(tokenizer: "Tokenizer") -> str:
    """The tokenizer's JSON text, without truncation and padding: the window's length is the exporter's knowledge.

    The tokenizer itself loses both, too.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def missing_files(folder: Path, *files: str) -> CheckpointError:
    """The error to raise where a folder holds none of the sets of files that a tokenizer is published as."""
    return CheckpointError(
        f"{folder}: expected {' or '.join(files)}, got neither; fix: put the tokenizer's files there"
    )
