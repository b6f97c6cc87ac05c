"""The options by which a picture is given, and what goes with it, whichever input of a plan reads them.

Each is declared once: several inputs share it, and a bundle's plan says what it means there.
"""

from collections.abc import Sequence
from typing import Annotated, TypedDict

from ...media.pictures import PictureSource
from ..option import Option


class ImageOptions(TypedDict, total=False):
    """Pictures to draw from."""

    image: Annotated[
        PictureSource | Sequence[PictureSource] | None,
        Option(
            "picture",
            "Picture to draw from: a reference, which may be given several times, or the one to redraw, to complete or "
            "to describe.",
            several=True,
        ),
    ]


class MaskOptions(TypedDict, total=False):
    """A part of a picture."""

    mask: Annotated[
        PictureSource | None,
        Option(
            "picture",
            "White on black, of the picture's size: where the subject is, all of it if left out; or what is drawn "
            "anew.",
        ),
    ]


class StrengthOptions(TypedDict, total=False):
    """How much a picture counts."""

    strength: Annotated[
        float | None,
        Option(
            "number",
            "How much the picture adds, 0 nothing; or the share of the steps that redraw it. The bundle's own if left "
            "out.",
            checked_by_input=True,
        ),
    ]
