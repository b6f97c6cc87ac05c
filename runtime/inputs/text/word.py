"""A placeholder word that stands for a subject in the prompt (ELITE, arXiv 2302.13848)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypedDict, get_args

import numpy as np

from ...bundle.records import Few
from ...errors import InputError
from ...media.prompts.reading import PromptStyle, read_prompt
from ...media.prompts.windows import CUT, windows_of
from ...media.tokenizer import Tokenizer, is_text
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, is_count, options_of, short

NOWHERE = -1
"""The place of a word in the windows of a prompt without it."""
PlacementRule = Literal["token", "authors"]
PLACEMENTS: tuple[PlacementRule, ...] = get_args(PlacementRule)


class WordOptions(TypedDict, total=False):
    """Where the subject's embeddings stand."""

    word: Annotated[
        str | None,
        Option("text", "Placeholder word that stands for the subject in the prompt.", checked_by_input=True),
    ]
    placement: Annotated[
        PlacementRule, Option("choice", "How its place is counted.", default=PLACEMENTS[0], choices=PLACEMENTS)
    ]
    words: Annotated[
        int, Option("count", "Subject's embeddings; above 1 with --global-only.", default=1, checked_by_input=True)
    ]
    global_only: Annotated[bool, Option("flag", "Leave the subject's patches out.", default=False)]


@dataclass(frozen=True, slots=True)
class WordInput:
    """How a placeholder word becomes the slot `word_index`, int64 [B]: where in the window the embeddings in the slot
    `words`, [1, most, D], begin. The unconditional side has the window's length, which is nowhere; where the prompt is
    read in another style, places count on over all windows, and the unconditional side has NOWHERE.

    `default` is the word when the caller names none. Source: ELITE (arXiv 2302.13848).
    """

    KEY: ClassVar[str] = "word"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(WordOptions)

    default: str
    most: Few

    def slots(self) -> tuple[str, ...]:
        return ("word_index",)

    def describe(self) -> str:
        return f"word ({self.default!r}), up to {self.most} embeddings"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Fills the word's index, unless there are problems."""
        values, tokenizer = call.values, made.tokenizer or call.tokenizer
        assert tokenizer is not None, "a word without a prompt to stand in"
        problems = list(self._problems(values))
        made.problems += problems
        # The prompt is looked at all the same: its problems are told with the others.
        words = int(values["words"]) if is_count(values["words"], self.most) else 1
        word = self.default if values["word"] is None else values["word"]
        if not is_text(call.prompt) or not isinstance(word, str):
            return
        style = PromptStyle.of(values)
        if style.plain:
            placed, nowhere = place_word(call.prompt, word, tokenizer, values["placement"], words), tokenizer.window
        else:
            placed, nowhere = place_styled(call.prompt, word, tokenizer, style, values["placement"], words), NOWHERE
        if problems:
            return
        made.notes += placed.notes
        made.slots["word_index"] = np.asarray([nowhere, placed.index][-call.rows :], np.int64)

    def stand_in(self) -> dict[str, Any]:
        return {"prompt": f"a red {self.default}"}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        words = (1, min(call.words, self.most), *known["words"][2:])
        return {"word_index": (call.rows,), "words": words}

    def _problems(self, values: Mapping[str, Any]) -> list[str]:
        word, words, problems = values["word"], values["words"], []
        if word is not None and not isinstance(word, str):
            problems.append(f"word: expected text, got {short(word)}; choose a word such as {self.default!r}")
        if not is_count(words, self.most):
            problems.append(f"words: expected a whole number from 1 to {self.most}, got {short(words)}")
        elif words > 1 and not values["global_only"]:
            problems.append(f"words: expected 1 beside the subject's patches, got {words}; add global_only")
        if values["global_only"] and values["strength"] is not None:
            problems.append("strength: scales the subject's patches, which global_only leaves out; give one of the two")
        return problems


@dataclass(frozen=True, slots=True)
class Placement:
    """`index` is the first token of the window that is replaced; `notes` are warnings, one line each."""

    index: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The tokens that spell one occurrence of the word, and nothing else."""

    first: int
    count: int


def place_word(prompt: str, word: str, tokenizer: Tokenizer, placement: str = "token", words: int = 1) -> Placement:
    """The window's index for `words` embeddings in the place of `word`, which must occur once, in this very case.

    "token" finds the word's own token, also before or after punctuation ("a photo of S."). "authors" counts words as
    ELITE's loader does, and lands elsewhere when an earlier word has several tokens, with a note. Raises InputError.
    """
    _check_word(word)
    prompt = tokenizer.expanded(prompt)
    spans = tokenizer.spans(prompt)
    places = _places(prompt, word, spans)
    counted = authors_index(prompt, word)
    if len(places) != 1 or (placement == "authors" and not counted):
        raise InputError(_not_once(prompt, word, len(places)))
    (place,) = places
    if placement == "authors":
        index, notes = counted, _authors_notes(word, place, counted)
    elif place.count > 1:
        raise InputError(_split_word(word, place.count))
    else:
        index, notes = place.first, []
    window = tokenizer.window
    # A prompt that does not fit keeps its closing token in the last place.
    last = window - words - (placement != "authors" and len(spans) > window)
    if index > last:
        raise InputError(
            f"prompt: expected {word!r} within the first {last} tokens, got it at {index} of the encoder's {window}; "
            "shorten the text before it"
        )
    return Placement(index, (*notes, *_pushed_notes(prompt, spans, window, words)))


def place_styled(
    prompt: str, word: str, tokenizer: Tokenizer, style: PromptStyle, placement: str = "token", words: int = 1
) -> Placement:
    """The place of `word`'s own token among those of all windows of a prompt that is read in a style. Raises InputError
    as `place_word` does, and for what counts in one plain window alone."""
    _check_word(word)
    problems = []
    if placement != "token":
        problems.append(
            f"placement: expected 'token' beside long_prompt and weights, got {placement!r}, which counts the words of "
            "one plain prompt; leave it out"
        )
    if words > 1:
        problems.append(
            f"words: expected 1 beside long_prompt and weights, got {words}, which move the tokens of one plain "
            "prompt; leave it out"
        )
    if problems:
        raise InputError(*problems)
    reading = read_prompt(prompt, tokenizer, style)
    places = _places(reading.text, word, list(reading.spans))
    if len(places) != 1:
        raise InputError(_not_once(reading.text, word, len(places)))
    (place,) = places
    if place.count > 1:
        raise InputError(_split_word(word, place.count))
    index = windows_of(reading, tokenizer, style).places[place.first]
    if index == CUT:
        last = tokenizer.window - 2
        raise InputError(
            f"prompt: expected {word!r} within the first {last} tokens, got it at {place.first + 1} of the encoder's "
            f"{tokenizer.window}; shorten the text before it, or give long_prompt (--long-prompt)"
        )
    return Placement(index)


def _check_word(word: str) -> None:
    if not word or word.split() != [word]:
        raise InputError(f"word: expected one word without spaces, got {word!r}; choose one such as 'S'")


def _split_word(word: str, count: int) -> str:
    return (
        f"word: expected a word of one token, {word!r} is split into {count}; choose one such as 'S', or placement "
        "'authors', which replaces the first"
    )


def authors_index(prompt: str, word: str) -> int:
    """1 + the number of the last word equal to `word`, counting what single spaces part; 0 where there is none."""
    numbers = [number for number, one in enumerate(prompt.strip().split(" "), 1) if one == word]
    return numbers[-1] if numbers else 0


def _occurrences(prompt: str, word: str, flags: re.RegexFlag = re.NOFLAG) -> list[int]:
    return [found.start() for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, flags)]


def _places(prompt: str, word: str, spans: list[tuple[int, int]]) -> list[Place]:
    """Occurrences that share no token with their neighbours: the s of "it's" is no word of its own."""
    places = []
    for begin in _occurrences(prompt, word):
        end = begin + len(word)
        tokens = [number for number, (left, right) in enumerate(spans) if left < end and right > begin]
        if tokens and prompt[spans[tokens[0]][0] : spans[tokens[-1]][1]].strip() == word:
            places.append(Place(tokens[0], len(tokens)))
    return places


def _not_once(prompt: str, word: str, times: int) -> str:
    shown = repr(prompt if len(prompt) <= 60 else prompt[:57] + "...")
    expected = f"prompt: expected the word {word!r} once, where the subject goes, got"
    if times > 1:
        return f"{expected} it {times} times in {shown}; keep one of them"
    if times or _occurrences(prompt, word):
        return f"{expected} it joined to other signs in {shown}; put spaces around it"
    if _occurrences(prompt, word, re.IGNORECASE):
        return f"{expected} it in other letters in {shown}; write {word!r}, upper and lower case as here"
    return f"{expected} {shown}; write {word!r} there, or name the word that stands for the subject"


def _authors_notes(word: str, place: Place, counted: int) -> list[str]:
    if counted != place.first:
        return [
            f"placement: counting words as the authors do puts the subject at token {counted}, but {word!r} is token "
            f"{place.first}; placement 'token' puts it there"
        ]
    if place.count > 1:
        return [f"word: {word!r} is split into {place.count} tokens, only the first of which is replaced"]
    return []


def _pushed_notes(prompt: str, spans: list[tuple[int, int]], window: int, words: int) -> list[str]:
    """Every embedding past the first moves the rest of the prompt by one token."""
    first = window - (words - 1)
    if words == 1 or first >= min(len(spans), window) - 1:
        return []
    text = prompt[spans[first][0] :].strip()
    left = f"{words} embeddings leave it {first} of the {window} tokens"
    return [f"prompt: {left}; this part is not drawn: {short(text)}"]
