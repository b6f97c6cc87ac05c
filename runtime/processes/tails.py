"""What becomes of the last tokens: pictures, sounds or texts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from ..bundle.calls import GraphCall, PlannedCall
from ..bundle.records import Count, Index
from ..inputs.option import Shape
from ..media.detokenizer import Detokenizer
from ..output import Decoded, Sound, to_images
from ..sessions.session import Session

Open = Callable[[str], Session]


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The part of a state that a tail reads: `count` tokens from `first` on, and `shift` less than their ids there."""

    first: Index
    count: Count
    shift: Index = 0

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """int64 [B, count] of the state's [B, length]."""
        return tokens[:, self.first : self.first + self.count] - self.shift


@dataclass(frozen=True, slots=True)
class PictureTail:
    """The graph maps `tokens` int64, [B, length] or where any grid will do [B, h, w], to `image` [B, 3, H, W] in -1..1.

    `to_uint8` tells how the original makes bytes.
    """

    kind: Literal["picture"] = field(default="picture", init=False)
    graph: str
    to_uint8: Literal["truncate", "round"] = "round"
    span: TokenSpan | None = None

    def calls(self) -> Iterator[PlannedCall]:
        """What it asks of its graph."""
        yield PlannedCall(
            self.graph, {"tokens": "tokens"}, {"image": "image"}, {"image": ("batch", 3, "height", "width")}
        )

    def describe(self) -> str:
        """What it does, in words."""
        return f"tokens -> {self.graph} -> picture, {self.to_uint8} to bytes"

    def decode(self, tokens: np.ndarray, opened: Open, file: Callable[[str], Path]) -> Decoded:
        """One picture for each row of tokens."""
        return Decoded(images=to_images(opened(self.graph)(tokens=tokens)["image"], self.to_uint8))


@dataclass(frozen=True, slots=True)
class SoundTail:
    """The `stages` begin with the slot `tokens`, int64 [B, length], and leave `waveform`, float32 [B, samples], about
    -1 to 1, at `rate` Hz."""

    kind: Literal["sound"] = field(default="sound", init=False)
    stages: tuple[GraphCall, ...]
    rate: Annotated[int, Meta(ge=1, le=10**6)]
    span: TokenSpan | None = None

    def calls(self) -> Iterator[PlannedCall]:
        """What it asks of its graphs."""
        for stage in self.stages:
            yield PlannedCall(stage.graph, stage.inputs, stage.outputs)

    def problems(self) -> Iterator[str]:
        """Slots that a stage reads and none before it fills; a chain that leaves no sound."""
        filled = {"tokens"}
        for stage in self.stages:
            lost = [slot for slot in stage.inputs.values() if slot not in filled]
            yield from (f"plan: {stage.graph} of the sound reads slot {slot!r}, which is not written" for slot in lost)
            filled |= set(stage.outputs.values())
        if "waveform" not in filled:
            yield "plan: expected graphs of the sound that write the slot 'waveform', got none that does"

    def describe(self) -> str:
        """What it does, in words."""
        return f"tokens -> {' -> '.join(stage.graph for stage in self.stages)} -> sound at {self.rate} Hz"

    def decode(self, tokens: np.ndarray, opened: Open, file: Callable[[str], Path]) -> Decoded:
        """One sound for each row of tokens."""
        slots = {"tokens": tokens}
        for stage in self.stages:
            made = opened(stage.graph)(**{name: slots[slot] for name, slot in stage.inputs.items()})
            slots |= {slot: made[name] for name, slot in stage.outputs.items()}
        return Decoded(sounds=[Sound(samples, self.rate) for samples in slots["waveform"]])


@dataclass(frozen=True, slots=True)
class TextTail:
    """Ids to text by the bundle's `tokenizer`, a tokenizer.json.

    `dropped` ids are left out, ids without a piece become `unknown`, and `tidy` is as in `Detokenizer`; the text ends
    before the first `end`, where there is one, and is stripped of blanks.
    """

    kind: Literal["text"] = field(default="text", init=False)
    tokenizer: str
    span: TokenSpan | None = None
    dropped: tuple[Index, ...] = ()
    unknown: str = ""
    end: str = ""
    tidy: bool = False

    def calls(self) -> Iterator[PlannedCall]:
        """No graph."""
        yield from ()

    def describe(self) -> str:
        """What it does, in words."""
        return f"tokens -> {self.tokenizer} -> text"

    def decode(self, tokens: np.ndarray, opened: Open, file: Callable[[str], Path]) -> Decoded:
        """One text for each row of tokens."""
        read = Detokenizer(file(self.tokenizer), self.dropped, self.unknown, self.tidy)
        texts = [read(row.tolist()) for row in tokens]
        return Decoded(texts=[(text.partition(self.end)[0] if self.end else text).strip() for text in texts])


Tail = PictureTail | SoundTail | TextTail


def tail_graphs(tail: Tail) -> tuple[str, ...]:
    """The graphs that a tail calls."""
    return tuple(call.graph for call in tail.calls())


def tokens_shape(tail: Tail, state: Shape, grid: Shape | None) -> Shape:
    """The shape of the tokens that a tail reads, of a state [B, length]; `grid` is (h, w) where any will do, which a
    part of a state and a text are not."""
    if tail.span is not None:
        return (state[0], tail.span.count)
    return state if grid is None or isinstance(tail, TextTail) else (state[0], *grid)
