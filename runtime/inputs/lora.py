"""LoRA files at run time: low-rank factors as inputs of graphs that were cut for them, zeros where a layer has none.

A run without one uses the plain graphs. The factors of several files stand side by side along the rank, so that
nothing is ever added to a weight, and what is taken away leaves no trace.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np
from msgspec import Meta

from ..errors import InputError
from ..files.safetensors import read_safetensors
from ..lora.alphas import stated_settings
from ..lora.choice import LoraChoice, parse_lora
from ..lora.lora import Lora, read_lora
from ..lora.names import TEXT, UNET, Layers
from .option import CallContext, CallShape, NamedTensors, Option, PreparedInputs, Shape, options_of, short

DOWN, UP = "lora_down", "lora_up"
"""Inputs of a graph that takes LoRAs, float32 [sum of its layers' inputs, rank] and [rank, sum of their outputs]."""
LEAST_RANK = 4
"""Ranks are filled up with zeros to a power of two, so that a backend which compiles for shapes does so seldom."""
MOST_RANK = 4096
KEY_OF, VALUE_OF = ".attn2.to_k", ".attn2.to_v"
LayerSize = Annotated[int, Meta(ge=1, le=65536)]
Part = Literal["unet", "text_encoder"]
LoraSpec = str | PathLike[str] | tuple[str | PathLike[str], float]
"""A file with its weight behind a colon, or beside it."""


def lora_file(text: str) -> Path:
    """The file in PATH:WEIGHT. Raises InputError for a weight that is no number."""
    return parse_lora(text).file()


def lora_texts(given: Any) -> list[str]:
    """An option's value as PATH:WEIGHT. Raises InputError for what is neither a path nor a pair."""
    return [f"{choice.file()}:{choice.weight:g}" for choice in given_loras(given)]


class LoraOptions(TypedDict, total=False):
    """What a bundle takes whose graphs were cut for LoRAs."""

    lora: Annotated[
        LoraSpec | list[LoraSpec] | None,
        Option(
            "weights",
            "LoRA's .safetensors with its weight behind a colon: style.safetensors:0.6.",
            several=True,
            stored=False,
            locate=lora_file,
            spelled=lora_texts,
            absent="leave it out, or export its base again with this x2i",
        ),
    ]


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """A layer of the base by its module path, with its weight's shape: [out, in], or [out, in, height, width]."""

    path: str
    shape: tuple[LayerSize, ...]

    @property
    def width_in(self) -> int:
        """Inputs of one pixel, or of one token."""
        return self.shape[1]

    @property
    def width_out(self) -> int:
        """Outputs of one pixel, or of one token."""
        return self.shape[0]

    @property
    def pointwise(self) -> bool:
        """Whether it is a matrix: a linear layer, or a convolution of one pixel."""
        return all(size == 1 for size in self.shape[2:])

    def outputs(self) -> Iterator[str]:
        """The output of a projection graph that it makes, if it makes keys or values of the context."""
        for ending, kind in ((KEY_OF, "key"), (VALUE_OF, "value")):
            if self.path.endswith(ending):
                yield f"{kind}.{self.path.removesuffix(ending)}"


@dataclass(frozen=True, slots=True)
class LoraGraph:
    """A graph of the plan, the part of the base that it holds, and its layers in the order of the factors' rows."""

    graph: str
    part: Part
    layers: tuple[LoraLayer, ...]

    @property
    def variant(self) -> str:
        """The graph that takes LoRAs in its place."""
        return lora_variant(self.graph)


def lora_variant(graph: str) -> str:
    """The name of the graph that takes LoRAs in the place of another."""
    return f"{graph}.lora"


@dataclass(frozen=True, slots=True)
class LoraInput:
    """LoRA files, as many as are given.

    `graphs` take them as inputs; `kernels` are the UNet's layers with kernels of several pixels, which no graph takes
    factors for.
    """

    KEY: ClassVar[str] = "lora"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(LoraOptions)

    graphs: tuple[LoraGraph, ...]
    kernels: tuple[LoraLayer, ...] = ()

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return f"LoRA files, for {sum(len(graph.layers) for graph in self.graphs)} layers"

    def layers(self) -> Layers:
        """The shapes of all layers by part and path."""
        found: dict[str, dict[str, Shape]] = {UNET: {layer.path: layer.shape for layer in self.kernels}}
        for graph in self.graphs:
            found.setdefault(graph.part, {}).update({layer.path: layer.shape for layer in graph.layers})
        return found

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given = call.values["lora"]
        if given is None:
            return
        choices = given_loras(given)
        layers, loras, problems = self.layers(), list[Lora](), list[str]()
        for choice in choices:
            try:
                loras.append(self._read(choice, layers))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(*problems)
        made.notes += [
            f"{choice.path.name}: its {count} layers of CLIP's text encoder are left out, which this bundle lacks"
            for choice, lora in zip(choices, loras, strict=True)
            if (count := lora.left_out.get(TEXT, 0))
        ]
        weighted = [(choice.weight, lora) for choice, lora in zip(choices, loras, strict=True) if choice.weight]
        for graph in self.graphs:
            if (arrays := _arrays(graph, weighted)) is not None:
                made.lora[graph.graph] = arrays

    def _read(self, choice: LoraChoice, layers: Layers) -> Lora:
        """Raises InputError for a file that is no LoRA of these layers, or that must be folded."""
        if problems := [f"lora: {problem}" for problem in choice.problems()]:
            raise InputError(*problems)
        file = choice.file()
        content = read_safetensors(file, str(file), "a LoRA's .safetensors")
        lora = read_lora(str(file), content.tensors, stated_settings(content.metadata, file), layers)
        if not lora.changes:
            raise InputError(
                f"{file}: expected changes of the UNet, got {lora.left_out[TEXT]} layers of CLIP's text encoder alone, "
                "which this bundle lacks; leave it out"
            )
        kernels = {layer.path for layer in self.kernels}
        whole = [path for (_, path), each in lora.changes.items() if path in kernels or each.change.factors() is None]
        if whole:
            raise InputError(
                f"{file}: expected changes of low rank, of layers without larger kernels, got others for {len(whole)} "
                f"layers, the first {whole[0]}; fold it with x2i export --lora"
            )
        return lora

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}


def padded_rank(rank: int) -> int:
    """The rank of the inputs for factors of a rank of 1 or more."""
    return max(LEAST_RANK, 1 << (rank - 1).bit_length())


def lora_problems(lora: LoraInput, graphs: set[str]) -> Iterator[str]:
    """What does not fit, given the graphs present."""
    for graph in lora.graphs:
        missing = [name for name in (graph.graph, graph.variant) if name not in graphs]
        if missing:
            yield f"lora: expected the graphs {', '.join(missing)}, found none; export the bundle again"
        if not graph.layers or any(not layer.pointwise for layer in graph.layers):
            yield f"lora: expected layers of {graph.graph} without larger kernels, got others; export the bundle again"
    if any(
        len(layer.shape) not in (2, 4) for layer in (*lora.kernels, *(each for g in lora.graphs for each in g.layers))
    ):
        yield "lora: expected shapes of two or four sizes, got others; export the bundle again"


def given_loras(given: Any) -> list[LoraChoice]:
    """The files and weights of an option's value. Raises InputError for what is neither a path nor a pair."""
    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Real)
    several = list(given) if isinstance(given, list | tuple) and not pair else [given]
    found, problems = list[LoraChoice](), list[str]()
    for each in several:
        try:
            found.append(_choice(each))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*(f"lora: {problem}" for problem in problems))
    return found


def _choice(given: Any) -> LoraChoice:
    if isinstance(given, LoraChoice):
        return given
    if isinstance(given, str):
        return parse_lora(given)
    if isinstance(given, PathLike):
        return LoraChoice(Path(fspath(given)))
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str | PathLike):
        path, weight = given
        if isinstance(weight, Real) and not isinstance(weight, bool):
            return LoraChoice(Path(fspath(path)), float(weight))
    raise InputError(f"expected a path such as style.safetensors:0.6, or (path, weight), got {short(given)}")


def _arrays(graph: LoraGraph, loras: Sequence[tuple[float, Lora]]) -> NamedTensors | None:
    """The factors of a graph's layers, None where no file changes any. Raises InputError for a rank beyond the most."""
    factors = [
        [
            (up * (weight * change.scale), down)
            for weight, lora in loras
            if (change := lora.changes.get((graph.part, layer.path))) is not None
            for up, down in [change.change.factors() or _none()]
        ]
        for layer in graph.layers
    ]
    rank = max((sum(len(down) for _, down in each) for each in factors), default=0)
    if not rank:
        return None
    if rank > MOST_RANK:
        raise InputError(f"lora: expected at most {MOST_RANK} as the ranks together, got {rank}; fold some at export")
    padded = padded_rank(rank)
    down = np.zeros((sum(layer.width_in for layer in graph.layers), padded), np.float32)
    up = np.zeros((padded, sum(layer.width_out for layer in graph.layers)), np.float32)
    row = column = 0
    for layer, pairs in zip(graph.layers, factors, strict=True):
        place = 0
        for layer_up, layer_down in pairs:
            size = len(layer_down)
            down[row : row + layer.width_in, place : place + size] = layer_down.T
            up[place : place + size, column : column + layer.width_out] = layer_up.T
            place += size
        row, column = row + layer.width_in, column + layer.width_out
    return {DOWN: down, UP: up}


def _none() -> Any:
    raise AssertionError("a change of full rank, which was to be refused")
