"""Syntax of other programs in a prompt, which is read as letters here: weights, breaks, adapters, schedules."""

import re
from collections.abc import Collection, Iterator

SHOWN = 3
"""How many pieces of one prompt a note quotes."""
# A number behind a colon is a weight where a word stands before the colon: "(16:9)" and "[10:30]" say something else.
_WEIGHT = r"(?<![\d\s]):\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*"
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\((?:[^()\[\]\\]|\\.){{0,300}}{_WEIGHT}\)",  # (word:1.3)
        rf"\[[^()\[\]]*{_WEIGHT}\]",  # [word:0.5]
        r"\[[^()\[\]:]*:[^()\[\]:]*:\s*\d*\.?\d+\s*\]",  # [from:to:0.5] and [from::0.5]
        r"\(\([^()]*\)\)",  # ((word))
        r"\([^()]+\)(?:\+{2,}|-{2,}|\d\.\d+)",  # (word)++ and (word)1.3
        r"\[\[[^\[\]]*\]\]",  # [[word]]
        r"\[[^()\[\]|]*(?:\|[^()\[\]|]*)+\]",  # [one|another]
        r"<(?:lora|lyco|hypernet):[^<>]*>",  # <lora:name:0.8>
        r"\bembedding:[\w.-]+",
    )
)
_KEYWORDS = ("BREAK", "AND")


def syntax_note(prompt: str, name: str, added: Collection[str]) -> str | None:
    """One line that quotes what another program would take for instructions, None where there is nothing.

    `name` is the option's; `added` are tokens of the tokenizer's own, of which nothing is said.
    """
    found = [piece for piece in dict.fromkeys(_pieces(prompt)) if piece not in added]
    if not found:
        return None
    quoted = ", ".join(repr(piece if len(piece) <= 40 else f"{piece[:37]}...") for piece in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{name}: {quoted}{more} is read as letters, as weights and other syntax are; write it in plain words"


def _pieces(prompt: str) -> Iterator[str]:
    for pattern in _PATTERNS:
        yield from (match[0] for match in pattern.finditer(prompt))
    words = re.findall(r"\w+", prompt)
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        # In a text that is all in capitals they are words like the others.
        if word in _KEYWORDS and any(near != near.upper() for near in (before, after)):
            yield word
