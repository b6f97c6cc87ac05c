"""Runs the plan's conditioners: what the caller gave in, named slots out, once per picture."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from .bundle.calls import GraphCall, expand_wildcards
from .bundle.cfg_batch import expand_cfg
from .bundle.plan import IS_NULL, Conditioner
from .bundle.reader import Bundle
from .errors import VALUE_LENGTH, one_line
from .inputs.option import NamedTensors
from .inputs.sound import MixInput, mixed
from .inputs.text.marker import MarkerInput
from .inputs.text.word import WordInput
from .media.prompt_syntax import syntax_note
from .media.tokenizer import Tokenizer, Tokens
from .request import Request
from .sessions.session import Session


class Conditions:
    """Fills the slots for a request, one row for each side of the guidance or one for both."""

    def __init__(self, bundle: Bundle, session: Callable[[str], Session]):
        self._session = session
        self._conditioners = [
            (conditioner, _tokenizer(bundle, conditioner)) for conditioner in bundle.manifest.plan.conditioners
        ]

    @property
    def prompt_tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the prompt that a placeholder word or a marker stands in."""
        standing = (t for c, t in self._conditioners if c.find(WordInput) or c.find(MarkerInput))
        return next(standing, None)

    def __call__(
        self, request: Request, other: np.ndarray | None = None, until: str | None = None
    ) -> tuple[NamedTensors, tuple[str, ...]]:
        """The slots, and a warning for every prompt that was cut.

        `other` is a context [B, tokens, D] to mix in; no stage is run behind the one that fills the slot `until`.
        """
        slots, notes = dict(request.inputs.slots), list(request.notes)
        slots[IS_NULL] = np.array([not request.values["negative"], False][-request.rows :])
        for conditioner, tokenizer in self._conditioners:
            if not _is_given(conditioner, slots, request):
                continue
            if tokenizer is not None and request.prompt is not None:
                tokens = _tokens(conditioner, tokenizer, request)
                notes += _syntax_notes(tokenizer, request)
                names = ("negative prompt", "prompt")[-len(tokens.cut) :]
                cut = zip(names, tokens.cut, strict=True)
                notes += [_cut_note(name, text, tokenizer.window) for name, text in cut if text]
                slots |= {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
            if conditioner.find(WordInput) is not None:
                slots["words"] = slots["words"][:, : request.values["words"]]
            if (mix := conditioner.find(MixInput)) is not None and other is not None:
                assert request.values["mix"] is not None, "a context to mix without its share"
                slots[mix.slot] = mixed(slots[mix.slot], other, request.values["mix"])
            for stage in conditioner.stages:
                slots |= self._run(stage, slots, request)
                if until in slots:
                    return slots, tuple(dict.fromkeys(notes))
        return slots, tuple(dict.fromkeys(notes))

    def unused_graphs(self, request: Request) -> set[str]:
        """Names of the graphs of starts that the caller did not give."""
        slots = request.inputs.slots
        return {
            stage.graph
            for conditioner, _ in self._conditioners
            if conditioner.optional and not _is_given(conditioner, slots, request)
            for stage in conditioner.stages
        }

    def _run(self, stage: GraphCall, slots: NamedTensors, request: Request) -> NamedTensors:
        session = self._session(stage.graph.format(**request.choices))
        read = {
            name: slots[slot] for name, slot in expand_wildcards(stage.inputs, (t.name for t in session.inputs)).items()
        }
        if any(len(array) > 1 for array in read.values()):
            read = {name: expand_cfg(array, request.rows) for name, array in read.items()}
        outputs = session(**read)
        return {slot: outputs[name] for name, slot in expand_wildcards(stage.outputs, outputs).items()}


def _is_given(conditioner: Conditioner, slots: NamedTensors, request: Request) -> bool:
    """Whether there is what a conditioner reads: what may be left out may have been, and all that is made of it."""
    if conditioner.text is not None:
        return request.prompt is not None
    made = set[str]()
    for stage in conditioner.stages:
        read = set(stage.inputs.values()) - made
        if not all(any(fnmatchcase(slot, each) for slot in slots) for each in read):
            return False
        made |= set(stage.outputs.values())
    return True


def _tokenizer(bundle: Bundle, conditioner: Conditioner) -> Tokenizer | None:
    text = conditioner.text
    if text is None:
        return None
    return Tokenizer(bundle.checked(text.tokenizer), text.window, text.pad_id, text.cleans)


def _tokens(conditioner: Conditioner, tokenizer: Tokenizer, request: Request) -> Tokens:
    """The negative prompt's row and the prompt's; a marker is deleted from the prompt, or read."""
    marker, made = conditioner.find(MarkerInput), request.inputs
    assert request.prompt is not None, "a conditioner of a prompt that is not there"
    prompt = request.prompt if marker is None or made.unmarked_prompt is None else made.unmarked_prompt
    tokens = tokenizer([prompt] if request.rows == 1 else [request.values["negative"], prompt])
    if marker is None or not marker.marks:
        return tokens
    assert made.marked_ids is not None, "a marker that nobody read"
    return replace(tokens, input_ids=np.concatenate([tokens.input_ids[:-1], made.marked_ids[None]]))


def _syntax_notes(tokenizer: Tokenizer, request: Request) -> list[str]:
    """A warning for each prompt with weights and the like, of which the negative one counts where it is read."""
    texts = {"negative prompt": request.values["negative"]} if request.rows == 2 else {}
    texts |= {"prompt": request.prompt or ""}
    return [note for name, text in texts.items() if (note := syntax_note(text, name, tokenizer.added)) is not None]


def _cut_note(name: str, text: str, window: int) -> str:
    shown = one_line(repr(text), VALUE_LENGTH)
    return f"{name}: longer than the encoder's {window} tokens; this part is not drawn: {shown}"
