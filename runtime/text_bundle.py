"""A second bundle that reads the prompt where the first hears a sound, as in GlueGen's script (arXiv 2303.10056)."""

from collections.abc import Callable
from typing import Unpack

import numpy as np

from .bundle.calls import GraphCall
from .bundle.plan import Plan
from .bundle.reader import Bundle
from .conditions import Conditions
from .errors import InputError
from .inputs.lora import LoraInput
from .inputs.paint import PaintInput
from .inputs.pictures.start_picture import StartPicture
from .inputs.registry import RunOptions
from .inputs.sound import MixInput
from .inputs.text.learned import LearnedInput
from .inputs.text.prompt import TextInput
from .inputs.text.windows import WindowsInput
from .request import Request, make_request
from .sessions.cache import SessionCache
from .sessions.session import Session

TEXT_OPTIONS = ("language", "negative", "embedding", "weights")
"""Those of a call's options that go with the prompt to the bundle that reads it."""
OF_TEXT = (TextInput, LearnedInput, WindowsInput, StartPicture, LoraInput, PaintInput)
"""What a bundle takes that draws from a prompt alone, or over a picture, with or without LoRAs and painted words."""


def check_mixable(sound: Bundle, text: Bundle) -> None:
    """Raises InputError unless the first can mix in what the second writes: a context for the very same denoiser."""
    problems = []
    mix, spoken = sound.manifest.plan.find(MixInput), text.manifest.plan
    if mix is None:
        problems.append(f"{sound.folder}: expected a bundle that draws from a sound, got {sound.manifest.system}")
    alone = all(isinstance(each, OF_TEXT) for each in spoken.inputs())
    if spoken.find(TextInput) is None or not alone or context_slot(spoken) is None:
        problems.append(
            f"{text.folder}: expected a bundle that draws from a prompt alone, got {text.manifest.system}; export "
            "sd or gluegen-text with the same base"
        )
    problems += [
        f"{text.folder}: expected prompts of {mix.tokens} tokens as {sound.folder} writes, got {window}"
        for window in (conditioner.text.window for conditioner in spoken.conditioners if conditioner.text)
        if mix is not None and window != mix.tokens
    ]
    if not problems and (parts := _different(sound, text)):
        problems.append(
            f"{text.folder}: expected the base of {sound.folder}, got another {' and '.join(parts)}; export both with "
            "the same --base"
        )
    if problems:
        raise InputError(*problems)


def context_slot(plan: Plan) -> str | None:
    """The slot that the keys and values of every step are projected from."""
    projection = _projection(plan)
    return None if projection is None else next(iter(projection.inputs.values()))


def _projection(plan: Plan) -> GraphCall | None:
    """The stage that leaves what the segments read."""
    read = {slot for process in plan.processes for segment in process.segments for slot in segment.context.values()}
    stages = (stage for conditioner in plan.conditioners for stage in conditioner.stages)
    return next((stage for stage in stages if read & set(stage.outputs.values())), None)


def _different(sound: Bundle, text: Bundle) -> list[str]:
    """Those of the sound's graphs behind the context that the text's bundle has not just so."""
    projection, plan = _projection(sound.manifest.plan), sound.manifest.plan
    assert projection is not None, "a mix that nothing is projected from"
    shared = dict.fromkeys([projection.graph, *plan.denoisers()])
    return [name for name in shared if _digests(sound, name) != _digests(text, name)]


def _digests(bundle: Bundle, name: str) -> list[str] | None:
    graph = bundle.manifest.graphs.get(name)
    return None if graph is None else [bundle.manifest.files[file].sha256 for file in (graph.file, *graph.data)]


class TextBundle:
    """Turns prompts into the context of the bundle it stands beside; graphs are opened when they are first needed."""

    def __init__(self, bundle: Bundle, open_session: Callable[[str], Session]):
        slot = context_slot(bundle.manifest.plan)
        assert slot is not None, "a bundle that writes no context is not mixable"
        self.bundle, self._slot = bundle, slot
        self._conditions = Conditions(bundle, SessionCache(open_session))

    def request(self, prompt: str | None, **options: Unpack[RunOptions]) -> Request:
        """Checks the prompt and TEXT_OPTIONS; raises InputError."""
        return make_request(self.bundle.manifest, prompt, self._conditions.prompt_tokenizers, **options)

    def context(self, request: Request) -> tuple[np.ndarray, tuple[str, ...]]:
        """The context of both sides of the guidance [B, tokens, D], and warnings."""
        slots, notes = self._conditions(request, until=self._slot)
        return slots[self._slot], notes
