"""Runs the plan's conditioners: text in, named slots out, once per picture."""

from collections.abc import Callable

import numpy as np

from .bundle import Bundle
from .plan import Conditioner
from .request import Request
from .sessions.session import Session
from .tokenizer import Tokenizer

Slots = dict[str, np.ndarray]


class Conditions:
    """Fills the slots for a request: arrays of batch 2, [unconditional, conditional], or 1 without guidance."""

    def __init__(self, bundle: Bundle, session: Callable[[str], Session]):
        self._session = session
        self._conditioners = [
            (conditioner, Tokenizer(bundle.path(conditioner.text.tokenizer), conditioner.text))
            for conditioner in bundle.manifest.plan.conditioners
        ]

    def __call__(self, request: Request) -> tuple[Slots, tuple[str, ...]]:
        """The slots, and a warning for every prompt that was cut."""
        prompts = [request.prompt] if request.guidance == 1.0 else [request.negative, request.prompt]
        slots: Slots = {}
        notes = []
        for conditioner, tokenizer in self._conditioners:
            tokens = tokenizer(prompts)
            notes += [_cut_note(text, conditioner.text.window) for text in tokens.cut if text]
            slots |= {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
            self._run(conditioner, slots, request.options)
        return slots, tuple(dict.fromkeys(notes))

    def _run(self, conditioner: Conditioner, slots: Slots, options: dict[str, str]) -> None:
        for stage in conditioner.stages:
            outputs = self._session(stage.graph.format(**options))(
                **{name: slots[slot] for name, slot in stage.inputs.items()}
            )
            slots |= {slot: outputs[name] for name, slot in stage.outputs.items()}


def _cut_note(text: str, window: int) -> str:
    return f"prompt: longer than the encoder's {window} tokens; this part is not drawn: {text!r}"
