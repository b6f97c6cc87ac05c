"""One element of a mixed prompt: a text or a picture, and how much it counts."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, one_line
from ..media.pictures import PictureSource

TEXT, IMAGE = "text", "image"
ITEM_KINDS = (TEXT, IMAGE)
SPELLING = "text:WORDS or image:FILE, with a weight behind a further colon or none"
ItemSpec = str | tuple[str, PictureSource] | tuple[str, PictureSource, float]
"""`text:a house:1.0` or `image:sea.png`; or the parts of one, where a picture may come from memory."""


@dataclass(frozen=True, slots=True)
class Item:
    """`content` is the words of a text, or a picture. What `weight` means the weighting says; 1 changes nothing."""

    kind: str
    content: PictureSource
    weight: Any = 1.0


def parse_item(text: str) -> Item:
    """An item as the command line spells it. Raises InputError for another kind.

    The kind stands before the first colon. What stands behind the last is the weight if it reads as a number, or
    nothing if it is empty; else the content goes on to the end, so that words may hold colons. `text:at 10:30:` ends
    in a number that is no weight. A picture's file does not end in a word behind a colon.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ITEM_KINDS:
        raise InputError(f"expected {SPELLING}, got {one_line(text, 60)!r}; write text:a house:1.0 or image:sea.png")
    content, colon, last = rest.rpartition(":")
    if not colon:
        return Item(kind, rest)
    if (weight := _weight(last)) is None:
        if kind == IMAGE and not re.search(r"[./\\]", last):
            raise InputError(
                f"expected a number as the weight of {one_line(content, 60)}, got {last!r:.40}; correct it"
            )
        return Item(kind, rest)
    return Item(kind, content, weight)


def _weight(text: str) -> float | None:
    """The number that a text spells, 1 for an empty one; None where it is other words."""
    if not text.strip():
        return 1.0
    try:
        return float(text)
    except ValueError:
        return None


def item_of(given: Any) -> Item:
    """An item from its text or from its parts. Raises InputError."""
    if isinstance(given, Item):
        return given
    if isinstance(given, str):
        return parse_item(given)
    if isinstance(given, list | tuple) and len(given) in (2, 3) and isinstance(given[0], str):
        if given[0] in ITEM_KINDS:
            return Item(*given)
        raise InputError(f"expected an item of the kinds {' or '.join(ITEM_KINDS)}, got {given[0]!r:.60}; leave it out")
    raise InputError(
        f"expected a text such as 'text:a house:1.0', or (kind, content, weight), got {type(given).__name__}"
    )


def several_items(given: Any) -> Sequence[Any]:
    """One item or many as a sequence; none as an empty one."""
    if given is None:
        return ()
    alone = isinstance(given, tuple) and len(given) in (2, 3) and isinstance(given[0], str) and given[0] in ITEM_KINDS
    return given if isinstance(given, list | tuple) and not alone else [given]


def item_file(text: str) -> Path | None:
    """The picture's file that an item's text names; None for words, and for what is no item."""
    try:
        item = parse_item(text)
    except InputError:
        return None
    return Path(str(item.content)) if item.kind == IMAGE and item.content else None


def item_texts(given: Any) -> list[Any]:
    """Each item as the command line spells it; a picture from memory as it is."""
    texts = list[Any]()
    for item in map(item_of, several_items(given)):
        named = isinstance(item.content, str | os.PathLike)
        texts.append(f"{item.kind}:{item.content}:{float(item.weight)!r}" if named else item.content)
    return texts
