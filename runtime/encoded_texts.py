"""The prompts of a request as the slots that a text encoder reads, and what is told of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .bundle.plan import Conditioner
from .errors import VALUE_LENGTH, one_line
from .inputs.option import NamedTensors
from .inputs.text.learned import LearnedInput
from .inputs.text.marker import MarkerInput
from .inputs.text.windows import WindowsInput
from .inputs.text.word import NOWHERE
from .media.prompts.reading import PromptStyle, read_prompt
from .media.prompts.syntax import syntax_note
from .media.prompts.windows import PromptWindows, windows_of
from .media.tokenizer import Tokenizer, Tokens
from .request import Request


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """`slots` hold a row for each side of the guidance, of prompts that are read in one window as they stand.

    Of others `windows` hold those of each window, and `weights`, float32 [rows, window] each, those of its tokens.
    `notes` are warnings, one line each.
    """

    slots: NamedTensors
    windows: tuple[NamedTensors, ...] = ()
    weights: tuple[np.ndarray, ...] = field(default=())
    notes: tuple[str, ...] = ()


def encoded_texts(conditioner: Conditioner, tokenizer: Tokenizer, request: Request) -> EncodedTexts:
    """The negative prompt's row and the prompt's, as a conditioner reads them by its tokenizer."""
    if conditioner.find(LearnedInput) is not None and request.inputs.tokenizer is not None:
        tokenizer = request.inputs.tokenizer
    can = conditioner.find(WindowsInput) is not None
    style = PromptStyle.of(request.values) if can else PromptStyle()
    notes = list(_syntax_notes(tokenizer, request, style, can))
    if style.plain:
        tokens = _tokens(conditioner, tokenizer, request)
        slots = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        return EncodedTexts(slots, notes=(*notes, *_cut_notes(tokens.cut, tokenizer.window, can)))
    sides = _sides(conditioner, tokenizer, request, style)
    count = max(len(side.input_ids) for side in sides)
    sides = [side.padded(count, tokenizer) for side in sides]
    windows = tuple(
        {
            "input_ids": np.stack([side.input_ids[number] for side in sides]),
            "attention_mask": np.stack([side.attention_mask[number] for side in sides]),
            **_placed(request, number, tokenizer.window),
        }
        for number in range(count)
    )
    weights = tuple(np.stack([side.weights[number] for side in sides]) for number in range(count))
    cut = tuple(side.cut for side in sides)
    slots = _marked(request, count * tokenizer.window)
    return EncodedTexts(slots, windows, weights, (*notes, *_cut_notes(cut, tokenizer.window, can)))


def _sides(conditioner: Conditioner, tokenizer: Tokenizer, request: Request, style: PromptStyle) -> list[PromptWindows]:
    """The negative prompt's windows, where it is read, and the prompt's."""
    marking = conditioner.find(MarkerInput)
    assert request.prompt is not None, "a conditioner of a prompt that is not there"
    marker = None if marking is None else marking.marker_of(request.values)
    readings = [read_prompt(request.negative, tokenizer, style)] if request.rows == 2 else []
    marks = marking is not None and marking.marks
    readings.append(read_prompt(request.prompt, tokenizer, style, marker, marks))
    return [windows_of(reading, tokenizer, style) for reading in readings]


def _placed(request: Request, number: int, window: int) -> NamedTensors:
    """Where the placeholder word stands in a window of this number, which is nowhere in all but one."""
    if "word_index" not in request.inputs.slots:
        return {}
    places = request.inputs.slots["word_index"] - number * window
    here = (request.inputs.slots["word_index"] != NOWHERE) & (places >= 0) & (places < window)
    return {"word_index": np.where(here, places, window)}


def _marked(request: Request, length: int) -> NamedTensors:
    """Which subject each token is, none of those in the empty windows behind the prompt's."""
    if "object_index" not in request.inputs.slots:
        return {}
    numbers = request.inputs.slots["object_index"]
    more = ((0, 0), (0, length - numbers.shape[1]))
    return {"object_index": np.pad(numbers, more, constant_values=-1)}


def _tokens(conditioner: Conditioner, tokenizer: Tokenizer, request: Request) -> Tokens:
    """The negative prompt's row and the prompt's; a marker is deleted from the prompt, or read."""
    marker, made = conditioner.find(MarkerInput), request.inputs
    assert request.prompt is not None, "a conditioner of a prompt that is not there"
    prompt = request.prompt if marker is None or made.unmarked_prompt is None else made.unmarked_prompt
    tokens = tokenizer([prompt] if request.rows == 1 else [request.negative, prompt])
    if marker is None or not marker.marks:
        return tokens
    assert made.marked_ids is not None, "a marker that nobody read"
    return replace(tokens, input_ids=np.concatenate([tokens.input_ids[:-1], made.marked_ids[None]]))


def _syntax_notes(tokenizer: Tokenizer, request: Request, style: PromptStyle, weighable: bool) -> Iterator[str]:
    """A warning for each prompt with weights and the like, of which the negative one counts where it is read."""
    texts = {"negative prompt": request.negative} if request.rows == 2 else {}
    texts |= {"prompt": request.prompt or ""}
    for name, text in texts.items():
        if (note := syntax_note(text, name, tokenizer.added, style, weighable)) is not None:
            yield note


def _cut_notes(cut: tuple[str, ...], window: int, long: bool) -> Iterator[str]:
    """A warning for each prompt that does not fit; the last is the prompt's."""
    for name, text in zip(("negative prompt", "prompt")[-len(cut) :], cut, strict=True):
        if text:
            shown = one_line(repr(text), VALUE_LENGTH)
            fix = "give long_prompt (--long-prompt) to read it all; " if long else ""
            yield f"{name}: longer than the encoder's {window} tokens; {fix}this part is not drawn: {shown}"
