"""A prompt as its tokens, none of them cut, with the weight of each and the places where a new window begins."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..tokenizer import Tokenizer
from .weights import Fragment, weighted_fragments

BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How a prompt is read: `long` in as many windows as it fills, `weighted` with its signs of weight."""

    long: bool = False
    weighted: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """That of a run with these options."""
        return cls(values.get("long_prompt") is True, values.get("weights") is True)

    @property
    def plain(self) -> bool:
        """Whether it is read in one window, as it stands."""
        return not (self.long or self.weighted)


PLAIN = PromptStyle()


@dataclass(frozen=True, slots=True)
class PromptReading:
    """`text` is the prompt without signs of weight, breaks and markers, learned words expanded. `ids`, `spans` (begin
    and end in the text) and `weights` are those of each token, without the special ones around the prompt.

    `breaks` are the counts of tokens behind which a new window begins, `marks` the counts behind which a marker stood.
    """

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    breaks: tuple[int, ...]
    marks: tuple[int, ...]


def read_prompt(
    prompt: str, tokenizer: Tokenizer, style: PromptStyle, marker: str | None = None, marks: bool = True
) -> PromptReading:
    """Reads a prompt; each piece of one weight is tokenized by itself, as AUTOMATIC1111's web UI does.

    `marker` is taken out: with `marks` the text on both sides is tokenized apart, as FastComposer's authors do, else as
    one. Raises InputError for weights that are none.
    """
    texts = list[str]()
    ids, spans, weights = list[int](), list[tuple[int, int]](), list[float]()
    found_breaks, found_marks = list[int](), list[int]()
    for fragment in weighted_fragments(prompt) if style.weighted else [Fragment(prompt)]:
        for number, section in enumerate(BREAK.split(fragment.text) if style.long else [fragment.text]):
            if number:
                found_breaks.append(len(ids))
            parts = [section] if marker is None else section.split(marker)
            for place, part in enumerate(parts if marks else ["".join(parts)]):
                if place:
                    found_marks.append(len(ids))
                text, pieces, offsets = tokenizer.encoded(part)
                begin = sum(map(len, texts))
                texts.append(text)
                ids += pieces
                spans += [(begin + left, begin + right) for left, right in offsets]
                weights += [fragment.weight] * len(pieces)
    return PromptReading(
        "".join(texts), tuple(ids), tuple(spans), tuple(weights), tuple(found_breaks), tuple(found_marks)
    )
