"""What a caller gives besides the prompt - pictures, a sound, a placeholder word, a strength - as one record."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import numpy as np

from ..bundle.plan import Plan
from ..media.pictures import PictureSource
from ..media.sound_files import SoundSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options of adapters; what a bundle does not take must keep its default.

    `subject`, its `mask`, `subjects` (one for each marked noun) and `image` (one or several) are files, PIL images or
    uint8 arrays; `soft_mask` weights by the mask's greys instead of cutting. `word` is the placeholder, `placement`
    "token" or "authors", `words` how many of the subject's embeddings stand there, `global_only` leaves its patches
    out. `strength` scales the second attention. `marker` marks the subjects' nouns; `alpha` (share of the run that sees
    the subjects, 0 to 1) or `start_merge_step` (last UNet call that does not) delays them; `object_resolution` is what
    their pictures are scaled to first. `sound` is a file, or samples and rate; `mix` how many tokens sound and prompt
    each keep of their own at the front.
    """

    subject: PictureSource | None = None
    mask: PictureSource | None = None
    soft_mask: bool = False
    image: PictureSource | Sequence[PictureSource] | None = None
    word: str | None = None
    placement: str = "token"
    words: int = 1
    global_only: bool = False
    strength: float | None = None
    subjects: PictureSource | Sequence[PictureSource] | None = None
    marker: str | None = None
    alpha: float | None = None
    start_merge_step: int | None = None
    object_resolution: int | None = None
    sound: SoundSource | None = None
    mix: int | None = None

    def problems(self, plan: Plan) -> list[str]:
        """Options that the plan does not take, and flags that are neither true nor false."""
        taken = plan.options()
        return [
            f"{option.name}: this bundle takes none; leave it out"
            for option in fields(Given)
            if option.name not in taken and not _is_default(getattr(self, option.name), option.default)
        ] + self._flag_problems()

    def _flag_problems(self) -> list[str]:
        """Any text would count as true, "no" as well."""
        return [
            f"{name}: expected True or False, got {short(getattr(self, name))}"
            for name in ("soft_mask", "global_only")
            if not isinstance(getattr(self, name), bool | np.bool_)
        ]


def several(given: PictureSource | Sequence[PictureSource] | None) -> Sequence[PictureSource]:
    """One picture or many as a sequence."""
    if given is None:
        return ()
    return given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else (given,)


def is_count(value: Any, most: int) -> bool:
    """Whether it is a whole number from 1 to `most`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= most


def short(value: Any) -> str:
    """How a value is shown in a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _is_default(value: Any, default: Any) -> bool:
    """Arrays would compare value by value."""
    return value is default or (isinstance(value, str | Integral) and bool(value == default))
