"""Syntax of other programs in a prompt, which is read as letters where nobody asks for more: weights, breaks, adapters,
schedules."""

import re
from collections.abc import Collection, Iterable, Iterator

from .reading import PLAIN, PromptStyle

SHOWN = 3
"""How many pieces of one prompt a note quotes."""
# A number behind a colon is a weight where a word stands before the colon: "(16:9)" and "[10:30]" say something else.
_WEIGHT = r"(?<![\d\s]):\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*"
_WEIGHTS = (
    rf"\((?:[^()\[\]\\]|\\.){{0,300}}{_WEIGHT}\)",  # (word:1.3)
    r"\(\([^()]*\)\)",  # ((word))
    r"\[\[[^\[\]]*\]\]",  # [[word]]
)
_OTHERS = (
    rf"\[[^()\[\]]*{_WEIGHT}\]",  # [word:0.5]
    r"\[[^()\[\]:]*:[^()\[\]:]*:\s*\d*\.?\d+\s*\]",  # [from:to:0.5] and [from::0.5]
    r"\([^()]+\)(?:\+{2,}|-{2,}|\d\.\d+)",  # (word)++ and (word)1.3
    r"\[[^()\[\]|]*(?:\|[^()\[\]|]*)+\]",  # [one|another]
    r"<(?:lora|lyco|hypernet):[^<>]*>",  # <lora:name:0.8>
    r"\bembedding:[\w.-]+",
)
_WEIGHT_PATTERNS, _OTHER_PATTERNS = (
    tuple(re.compile(pattern, re.IGNORECASE) for pattern in group) for group in (_WEIGHTS, _OTHERS)
)
_BREAK, _AND = "BREAK", "AND"


def syntax_note(
    prompt: str, name: str, added: Collection[str], style: PromptStyle = PLAIN, weighable: bool = False
) -> str | None:
    """One line that quotes what another program would take for instructions, None where there is nothing.

    `name` is the option's; `added` are tokens of the tokenizer's own, of which nothing is said, and nothing is said of
    what `style` reads. `weighable` says that weights could be had.
    """
    weights = [] if style.weighted else _found(prompt, _WEIGHT_PATTERNS, added)
    others = _found(prompt, _OTHER_PATTERNS, added)
    others += [word for word in _keywords(prompt) if not (word == _BREAK and style.long) and word not in added]
    found = list(dict.fromkeys([*weights, *others]))
    if not found:
        return None
    quoted = ", ".join(repr(piece if len(piece) <= 40 else f"{piece[:37]}...") for piece in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    fix = "give weights (--weights) to have words weighted, or " if weights and weighable else ""
    return f"{name}: {quoted}{more} is read as letters, as weights and other syntax are; {fix}write it in plain words"


def _found(prompt: str, patterns: Iterable[re.Pattern[str]], added: Collection[str]) -> list[str]:
    pieces = dict.fromkeys(match[0] for pattern in patterns for match in pattern.finditer(prompt))
    return [piece for piece in pieces if piece not in added]


def _keywords(prompt: str) -> Iterator[str]:
    words = re.findall(r"\w+", prompt)
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        # In a text that is all in capitals they are words like the others.
        if word in (_BREAK, _AND) and any(near != near.upper() for near in (before, after)):
            yield word
