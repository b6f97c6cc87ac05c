"""Where the words of a region stand in a prompt's tokens."""

import numpy as np

from ..errors import VALUE_LENGTH, InputError, one_line
from ..inputs.option import CallContext, PreparedInputs
from ..media.prompts.reading import PromptStyle, read_prompt
from ..media.prompts.windows import windows_of
from ..media.tokenizer import Tokenizer


def ids_of_prompt(call: CallContext, made: PreparedInputs, tokenizer: Tokenizer) -> np.ndarray:
    """int64 [windows, window]: the prompt as its encoder reads it, markers left out."""
    prompt = call.prompt if made.unmarked_prompt is None else made.unmarked_prompt
    assert prompt is not None, "the tokens of a prompt that is not there"
    style = PromptStyle.of(call.values)
    if style.plain:
        return tokenizer([prompt]).input_ids
    windows = windows_of(read_prompt(prompt, tokenizer, style), tokenizer, style)
    return windows.padded(max(made.windows, len(windows.input_ids)), tokenizer).input_ids


def label_counts(ids: np.ndarray, label: str, tokenizer: Tokenizer) -> np.ndarray:
    """float32 [windows * window]: at each token, how many occurrences of the label hold it.

    An occurrence is the label's tokens one after the other, wherever they stand. Raises InputError where there is none.
    """
    text, pieces, spans = tokenizer.encoded(label)
    counts = np.zeros(ids.shape, np.float32)
    for window, row in enumerate(ids.tolist()):
        for first in range(len(row) - len(pieces) + 1 if pieces else 0):
            if row[first : first + len(pieces)] == pieces:
                counts[window, first : first + len(pieces)] += 1
    if not counts.any():
        tokens = one_line(", ".join(repr(text[begin:end]) for begin, end in spans) or "none", VALUE_LENGTH)
        raise InputError(
            f"expected words of the prompt, got {label!r}, whose tokens ({tokens}) stand nowhere in it one after the "
            "other; write the label as the prompt does, or shorten the text before it"
        )
    return counts.reshape(-1)
