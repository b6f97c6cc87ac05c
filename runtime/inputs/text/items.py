"""Texts and pictures in one prompt, each with its weight, as M-VADER reads them (arXiv 2212.02936).

No code of its authors is public: how elements are encoded together and what their weights do are assumptions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ...bundle.calls import GraphCall
from ...bundle.records import Count, Index, Side
from ...errors import InputError
from ...items.item import IMAGE, TEXT, Item, ItemSpec, item_file, item_of, item_texts, several_items
from ...items.sequence import CONTEXT, ENCODINGS, ITEM_EMBEDS, ITEM_IDS, ITEM_PIXELS, Encoding, MixedSequence
from ...items.weights import KEY_BIAS, KEY_STRETCH, WEIGHTINGS, Weighting
from ...media.clip_pixels import clip_pixels
from ...media.pictures import open_picture, several, stand_in_picture
from ...media.tokenizer import Tokenizer, is_text
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, is_number, options_of, short
from ..pictures.options import ImageOptions
from .prompt import STAND_IN_PROMPT

MOST_ITEM_WEIGHT = 100.0
NamedItem = tuple[str, Item]
"""An item behind its name in messages."""


class ItemsOptions(TypedDict, total=False):
    """A prompt of several weighted texts and pictures."""

    items: Annotated[
        ItemSpec | list[ItemSpec] | None,
        Option(
            "item",
            "Text or picture to draw from, with a weight from 0 to 100 or none, which is 1: text:a house:1.5 or "
            "image:sea.png; in the order of the prompt, behind PROMPT and --image.",
            several=True,
            flag="--item",
            stored=False,
            locate=item_file,
            spelled=item_texts,
        ),
    ]
    negative_items: Annotated[
        ItemSpec | list[ItemSpec] | None,
        Option(
            "item",
            "Text or picture to steer away from, spelled as an item without a weight, instead of --negative.",
            several=True,
            flag="--negative-item",
            stored=False,
            locate=item_file,
            spelled=item_texts,
        ),
    ]
    encoding: Annotated[
        Encoding | None,
        Option(
            "choice",
            "How the items are read: joint, each with those before it, or separate, each by itself. The bundle's own "
            "if left out.",
            choices=ENCODINGS,
        ),
    ]
    weighting: Annotated[
        Weighting | None,
        Option(
            "choice",
            "What an item's weight does: additive, its share of the attention times w; multiplicative, its scores "
            "stretched by w; embedding, its vectors times w. The bundle's own if left out.",
            choices=WEIGHTINGS,
        ),
    ]


@dataclass(frozen=True, slots=True)
class ItemsInput:
    """How texts and pictures become the slots `context` float32 [rows, T, width], `key_bias` and `key_stretch` float32
    [rows, T], by graphs that read one piece after the other: `item_ids` int64 [1, n], `item_pixels` float32 [1, 3,
    image_size, image_size] and, in the language model, `item_embeds` float32 [1, L, width].

    `tokenizer` is a file of the bundle. A picture takes `patches` positions of the language model's `positions`. The
    token `end` alone is what is steered away from where nothing else is said. `encoding` and `weighting` are used where
    the caller names none.
    """

    KEY: ClassVar[str] = "items"
    OPTIONS: ClassVar[tuple[Option, ...]] = (*options_of(ItemsOptions), *options_of(ImageOptions))

    tokenizer: str
    width: Count
    image_size: Side
    patches: Count
    positions: Count
    end: Index
    encoding: Encoding = "joint"
    weighting: Weighting = "additive"

    def slots(self) -> tuple[str, ...]:
        return (ITEM_IDS, ITEM_PIXELS, ITEM_EMBEDS, CONTEXT, KEY_BIAS, KEY_STRETCH)

    def describe(self) -> str:
        return (
            f"items, texts by {self.tokenizer} and pictures of {self.image_size}x{self.image_size} pixels, "
            f"{self.encoding} in up to {self.positions} positions, weights {self.weighting}"
        )

    def encoding_of(self, values: Mapping[str, Any]) -> Encoding:
        """The caller's, or the plan's."""
        chosen: Encoding | None = values["encoding"]
        return chosen or self.encoding

    def weighting_of(self, values: Mapping[str, Any]) -> Weighting:
        """The caller's, or the plan's."""
        chosen: Weighting | None = values["weighting"]
        return chosen or self.weighting

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        assert call.tokenizer is not None, "items without a tokenizer"
        problems, values = list[str](), call.values
        avoided, drawn = self._avoided(values, problems), self._drawn(call, problems)
        if not drawn and not problems:
            problems.append("items: expected a text or a picture, got none; give items (--item), a prompt or an image")
        problems += _weight_problems(drawn, self.weighting_of(values))
        problems += [
            f"{name}: expected no weight, which nothing has that is steered away from, got {short(item.weight)}; leave "
            "it out"
            for name, item in avoided
            if not (is_number(item.weight) and item.weight == 1)
        ]
        sides = [self._pieces(side, call.tokenizer, made, problems) for side in (avoided, drawn)]
        for name, pieces in zip(("negative_items", "items"), sides, strict=True):
            problems += self._length_problems(name, pieces, self.encoding_of(values))
        if problems:
            raise InputError(*problems)
        nothing = {"negative": np.array([[self.end]], np.int64)}
        weights = tuple(float(item.weight) for _, item in drawn)
        away = tuple((sides[0] or nothing).values())
        both = MixedSequence(away, (1.0,) * len(away)), MixedSequence(tuple(sides[1].values()), weights)
        made.sequences = both[-call.rows :]

    def stand_in(self) -> dict[str, Any]:
        return {"prompt": STAND_IN_PROMPT, "image": [stand_in_picture()]}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        length = min(call.positions, self.positions)
        keys = call.rows, length
        return {
            ITEM_IDS: (1, length),
            ITEM_PIXELS: (1, 3, self.image_size, self.image_size),
            ITEM_EMBEDS: (1, length, self.width),
            CONTEXT: (*keys, self.width),
            KEY_BIAS: keys,
            KEY_STRETCH: keys,
        }

    def _drawn(self, call: CallContext, problems: list[str]) -> list[NamedItem]:
        """What is drawn, by names for messages: prompt, pictures, items."""
        found = [("prompt", Item(TEXT, call.prompt))] if is_text(call.prompt) and call.prompt else []
        pictures = several(call.values["image"])
        found += [
            ("image" if len(pictures) == 1 else f"image[{number}]", Item(IMAGE, picture))
            for number, picture in enumerate(pictures)
        ]
        return found + _listed("items", call.values["items"], problems)

    def _avoided(self, values: Mapping[str, Any], problems: list[str]) -> list[NamedItem]:
        """What is steered away from, empty where nothing is said."""
        text, items = values["negative"], _listed("negative_items", values["negative_items"], problems)
        if is_text(text) and text and values["negative_items"] is not None:
            problems.append("negative: expected a text or negative_items, got both; write the text as one of the items")
        return items or ([("negative", Item(TEXT, text))] if is_text(text) and text else [])

    def _pieces(
        self, items: Sequence[NamedItem], tokenizer: Tokenizer, made: PreparedInputs, problems: list[str]
    ) -> dict[str, np.ndarray]:
        """The tokens or the pixels of each item by its name, of those that have any."""
        found = {}
        for name, item in items:
            try:
                found[name] = self._pixels(name, item, made) if item.kind == IMAGE else _ids(name, item, tokenizer)
            except InputError as error:
                problems += error.problems
        return found

    def _pixels(self, name: str, item: Item, made: PreparedInputs) -> np.ndarray:
        if isinstance(item.content, str) and not item.content:
            raise InputError(f"{name}: expected a picture's file, got no name; write image:sea.png")
        picture = open_picture(item.content, name)
        made.notes += picture.notes
        return clip_pixels([picture.image], self.image_size)

    def _length_problems(self, name: str, pieces: Mapping[str, np.ndarray], encoding: Encoding) -> Iterator[str]:
        """What does not fit into the language model: all pieces together, or one by itself."""
        lengths = {own: piece.shape[1] if piece.ndim == 2 else self.patches for own, piece in pieces.items()}
        fix = "shorten it"
        if encoding == "joint" and len(lengths) > 1:
            lengths, fix = {name: sum(lengths.values())}, "leave some out, or choose the encoding separate"
        for what, length in lengths.items():
            if length > self.positions:
                yield (
                    f"{what}: expected at most the language model's {self.positions} positions, {self.patches} a "
                    f"picture, got {length}; {fix}"
                )


def item_problems(stages: Sequence[GraphCall]) -> Iterator[str]:
    """What does not fit, given the calls of the graphs that pieces go through."""
    for slot in (ITEM_IDS, ITEM_PIXELS, ITEM_EMBEDS):
        readers = [stage for stage in stages if slot in stage.inputs.values()]
        if len(readers) != 1 or len(readers[0].inputs) != 1 or len(readers[0].outputs) != 1:
            yield f"plan: expected one graph that makes one thing of {slot} alone, got others; export the bundle again"


def _ids(name: str, item: Item, tokenizer: Tokenizer) -> np.ndarray:
    if not is_text(item.content):
        raise InputError(f"{name}: expected text in Unicode, got {short(item.content)}; write words")
    ids = tokenizer.pieces(item.content)
    if not ids:
        raise InputError(f"{name}: expected words, got an empty text; say what to draw, or leave it out")
    return np.array([ids], np.int64)


def _listed(name: str, given: Any, problems: list[str]) -> list[NamedItem]:
    """The items of an option, each with its name for messages."""
    found = []
    for number, each in enumerate(several_items(given)):
        try:
            found.append((f"{name}[{number}]", item_of(each)))
        except InputError as error:
            problems += [f"{name}[{number}]: {problem}" for problem in error.problems]
    return found


def _weight_problems(items: Sequence[NamedItem], weighting: Weighting) -> list[str]:
    """One line for each weight that is none, and for weights that leave nothing to be read."""
    found = [
        f"{name}: expected a weight from 0 to {MOST_ITEM_WEIGHT:g}, got {short(item.weight)}; 1 changes nothing"
        for name, item in items
        if not (is_number(item.weight) and 0 <= item.weight <= MOST_ITEM_WEIGHT)
    ]
    if not found and items and weighting == "additive" and not any(item.weight for _, item in items):
        found.append("items: expected a weight above 0, got none; 0 leaves an item out where weights are additive")
    return found
