"""The bundle that reads the prompt where another one hears the sound: its text graphs alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .bundle import Bundle
from .conditions import Conditions
from .mix import context_slot
from .request import Request, make_request
from .sessions.opened import OpenedOnce
from .sessions.session import Session


class TextSide:
    """Turns prompts into the context of the bundle it stands beside; graphs are opened when they are first needed."""

    def __init__(self, bundle: Bundle, open_session: Callable[[str], Session]):
        slot = context_slot(bundle.manifest.plan)
        assert slot is not None, "a bundle that writes no context is not mixable"
        self._bundle, self._slot = bundle, slot
        self._conditions = Conditions(bundle, OpenedOnce(open_session))

    def request(self, prompt: str | None, **options: Any) -> Request:
        """Checks the prompt and TEXT_OPTIONS; raises InputError."""
        return make_request(self._bundle.manifest, prompt, **options)

    def context(self, request: Request) -> tuple[np.ndarray, tuple[str, ...]]:
        """The context of both sides of the guidance [B, tokens, D], and warnings."""
        slots, notes = self._conditions(request, until=self._slot)
        return slots[self._slot], notes
