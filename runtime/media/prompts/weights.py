"""Weights of words in a prompt, written as in AUTOMATIC1111's web UI: (word), [word], (word:1.3), and backslashes
before brackets that are letters."""

import re
from dataclasses import dataclass

from ...errors import InputError

MORE, LESS = 1.1, 1 / 1.1
LARGEST_WEIGHT = 100.0
MOST_OPEN = 64
"""Brackets inside one another."""
_SIGNS = re.compile(r"\\[\\()\[\]]|\\|[()\[\]]|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|[^\\()\[\]:]+|:")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a prompt, all of whose words have one weight."""

    text: str
    weight: float = 1.0


def weighted_fragments(prompt: str) -> list[Fragment]:
    """The prompt's pieces in order, without the signs that weight them; neighbours of one weight are one piece.

    (word) multiplies by 1.1 and [word] divides by it, (word:1.3) multiplies by its number; nested ones multiply. A
    bracket that nothing closes reaches to the end, one that nothing opened is a letter, and so is one behind a
    backslash. Raises InputError for a weight
    that is none. Source: `parse_prompt_attention` of the web UI.
    """
    texts, weights = list[str](), list[float]()
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(first: int, factor: float) -> None:
        weights[first:] = [weight * factor for weight in weights[first:]]

    for found in _SIGNS.finditer(prompt):
        sign, number = found[0], found[1]
        if sign in opened:
            opened[sign].append(len(texts))
            if len(opened["("]) + len(opened["["]) > MOST_OPEN:
                raise InputError(
                    f"weights: expected at most {MOST_OPEN} brackets inside one another, got more; close some"
                )
        elif number is not None and opened["("]:
            multiply(opened["("].pop(), float(number))
        elif sign == ")" and opened["("]:
            multiply(opened["("].pop(), MORE)
        elif sign == "]" and opened["["]:
            multiply(opened["["].pop(), LESS)
        else:
            texts.append(sign[1:] if sign.startswith("\\") else sign)
            weights.append(1.0)
    for first in opened["("]:
        multiply(first, MORE)
    for first in opened["["]:
        multiply(first, LESS)
    _check(texts, weights)
    return _merged(texts, weights)


def _check(texts: list[str], weights: list[float]) -> None:
    for text, weight in zip(texts, weights, strict=True):
        if not abs(weight) <= LARGEST_WEIGHT:
            raise InputError(
                f"weights: expected weights from -{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}, got {weight:g} for "
                f"{text.strip()!r}; lower it"
            )


def _merged(texts: list[str], weights: list[float]) -> list[Fragment]:
    merged: list[Fragment] = []
    for text, weight in zip(texts, weights, strict=True):
        if merged and merged[-1].weight == weight:
            merged[-1] = Fragment(merged[-1].text + text, weight)
        else:
            merged.append(Fragment(text, weight))
    return merged or [Fragment("")]
