"""Runs the plan's conditioners: what the caller gave in, named slots out, once per picture."""

from collections.abc import Callable

from .bundle import Bundle
from .plan import Stage
from .request import Request
from .sessions.session import Session
from .slots import Slots, for_sides, wired
from .tokenizer import Tokenizer


class Conditions:
    """Fills the slots for a request, one row for each side of the guidance or one for both."""

    def __init__(self, bundle: Bundle, session: Callable[[str], Session]):
        self._session = session
        self._conditioners = [
            (conditioner, None if (text := conditioner.text) is None else Tokenizer(bundle.path(text.tokenizer), text))
            for conditioner in bundle.manifest.plan.conditioners
        ]

    @property
    def word_tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the prompt that a placeholder word stands in."""
        return next((tokenizer for conditioner, tokenizer in self._conditioners if conditioner.word is not None), None)

    def __call__(self, request: Request) -> tuple[Slots, tuple[str, ...]]:
        """The slots, and a warning for every prompt that was cut."""
        prompts = [request.prompt] if request.sides == 1 else [request.negative, request.prompt]
        slots, notes = dict(request.slots), list(request.notes)
        for conditioner, tokenizer in self._conditioners:
            if tokenizer is not None:
                tokens = tokenizer(prompts)
                notes += [_cut_note(text, tokenizer.window) for text in tokens.cut if text]
                slots |= {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
            if conditioner.word is not None:
                slots["words"] = slots["words"][:, : request.words]
            for stage in conditioner.stages:
                slots |= self._run(stage, slots, request)
        return slots, tuple(dict.fromkeys(notes))

    def _run(self, stage: Stage, slots: Slots, request: Request) -> Slots:
        session = self._session(stage.graph.format(**request.options))
        read = {name: slots[slot] for name, slot in wired(stage.inputs, (t.name for t in session.inputs)).items()}
        if any(len(array) > 1 for array in read.values()):
            read = {name: for_sides(array, request.sides) for name, array in read.items()}
        outputs = session(**read)
        return {slot: outputs[name] for name, slot in wired(stage.outputs, outputs).items()}


def _cut_note(text: str, window: int) -> str:
    return f"prompt: longer than the encoder's {window} tokens; this part is not drawn: {text!r}"
