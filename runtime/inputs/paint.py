"""Words painted onto places (paint-with-words; eDiff-I, arXiv 2211.01324): where and how strongly words of the prompt
count in a denoiser's cross-attention.

A run without any, or of strength 0, uses the plain graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np
from msgspec import Meta

from ..bundle.records import Few, Index, Side
from ..errors import InputError
from ..items.weights import KEY_BIAS
from ..media.pictures import PictureSource
from ..media.tokenizer import is_text
from ..paint.gains import PAINT_FORMS, USUAL_STRENGTHS, Painted, PaintForm, PaintGains, paint_variant
from ..paint.given import Region, map_regions, mask_regions, region_texts, several_regions
from ..paint.maps import blurred, latents_grid, nearest_resized, region_columns
from ..paint.noise import REGION_COVER, REGION_NOISE, drawn_noise, region_draw, regions_noise
from ..paint.region import parse_region
from ..paint.tokens import ids_of_prompt, label_counts
from .option import CallContext, CallShape, NamedTensors, Option, PreparedInputs, Shape, is_number, options_of, short

PAINTED = "painted"
GAIN_MAX, GAIN_DEVIATION = "gain_max", "gain_deviation"
"""Inputs of a graph that takes painted words: beside a map for each size, [B, N, T], and what is added to the tokens'
scores, the factors [B] of a score's maximum and deviation, which change from step to step."""
CONTEXT = {f"{PAINTED}.*": f"{PAINTED}.*", KEY_BIAS: KEY_BIAS}
"""Those that stay the same, with their slots, in a plan's notation."""
MOST_STRENGTH = 100.0
AGAIN = "leave it out, or export its base again with this x2i"
RegionSpec = str | tuple[PictureSource, str] | tuple[PictureSource, str, float] | Sequence[Any]
"""A mask's file with words and weight behind colons, or a mask with words, weight, seed and blur beside it."""


def painted_name(factor: int) -> str:
    """The map, and its slot, for a cross-attention whose cells have `factor` of the latents a side."""
    return f"{PAINTED}.{factor}"


def region_file(text: str) -> Path:
    """The mask in MASK:WORDS:WEIGHT. Raises InputError."""
    return parse_region(text).path


class PaintOptions(TypedDict, total=False):
    """What a bundle takes whose denoiser was cut for painted words."""

    paint: Annotated[
        PictureSource | None,
        Option(
            "picture", "Painted map: each colour is where its words are drawn; of the picture's size.", absent=AGAIN
        ),
    ]
    paint_words: Annotated[
        Mapping[str, Any] | str | None,
        Option(
            "table",
            "JSON with the words of each colour of the map: {'#13ff00': 'tree,1.5'}, or with a seed and a blur behind.",
            flag="--words",
            checked_by_input=True,
            absent=AGAIN,
        ),
    ]
    regions: Annotated[
        RegionSpec | list[RegionSpec] | None,
        Option(
            "weights",
            "Mask, white where words of the prompt are drawn, with the words and their weight behind colons: "
            "mask.png:cat:1.2, or with a seed and a blur behind.",
            several=True,
            flag="--region",
            stored=False,
            locate=region_file,
            spelled=region_texts,
            absent=AGAIN,
        ),
    ]
    paint_strength: Annotated[
        float | None,
        Option(
            "number",
            "How strongly painted words count; 0 not at all. 0.1 if left out, 0.4 in the other forms.",
            least=0,
            most=MOST_STRENGTH,
            absent=AGAIN,
        ),
    ]
    paint_form: Annotated[
        PaintForm,
        Option(
            "choice",
            "What the strength is a share of: the scores' maximum, or their standard deviation.",
            default=PAINT_FORMS[0],
            choices=PAINT_FORMS,
            absent=AGAIN,
        ),
    ]


@dataclass(frozen=True, slots=True)
class PaintLayer:
    """A cross-attention by its module path, with its heads; its cells have `factor` of the latents a side."""

    path: str
    factor: Annotated[int, Meta(ge=1, le=1024)]
    heads: Annotated[int, Meta(ge=1, le=1024)]


@dataclass(frozen=True, slots=True)
class PaintGraph:
    """A denoiser's graph whose variant takes painted words in these layers."""

    graph: str
    layers: tuple[PaintLayer, ...]

    @property
    def variant(self) -> str:
        """The graph that takes them in the other's place."""
        return paint_variant(self.graph)

    @property
    def factors(self) -> set[int]:
        """How many latents a cell has a side, of each size of cross-attention."""
        return {layer.factor for layer in self.layers}

    def inputs(self) -> set[str]:
        """What the variant reads beside the other graph's own inputs."""
        return {*map(painted_name, self.factors), KEY_BIAS, GAIN_MAX, GAIN_DEVIATION}


@dataclass(frozen=True, slots=True)
class PaintInput:
    """Painted words, which the variants of `graphs` take.

    A slot `painted.F` float32 [rows, N, T] for each size holds the weights of the T tokens at the N cells, zeros on the
    unconditional row; `key_bias` [1, T] adds nothing. The context are the states of as many `texts`, the plan's first,
    and behind them `rest` tokens that are no words. Regions with a seed fill `region_noise` and `region_cover`, which
    take the place of the start noise there. Latents have `channels`, one has `factor` pixels a side, and the sides of a
    picture are multiples of `multiple`.
    """

    KEY: ClassVar[str] = "paint"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(PaintOptions)

    graphs: tuple[PaintGraph, ...]
    channels: Few
    factor: Few
    multiple: Side
    texts: Few = 1
    rest: Index = 0

    @property
    def variants(self) -> list[str]:
        """The graphs that take painted words in the others' places."""
        return [each.variant for each in self.graphs]

    @property
    def factors(self) -> list[int]:
        """How many latents a cell has a side, of each size of cross-attention."""
        return sorted(set[int]().union(*(each.factors for each in self.graphs)))

    def of(self, graph: str) -> PaintGraph | None:
        """The one of a graph's name."""
        return next((each for each in self.graphs if each.graph == graph), None)

    def slots(self) -> tuple[str, ...]:
        return (*map(painted_name, self.factors), KEY_BIAS, REGION_NOISE, REGION_COVER)

    def describe(self) -> str:
        sizes = ", ".join(str(self.factor * factor) for factor in self.factors)
        return f"painted words, in cells of {sizes} pixels a side, by {', '.join(self.variants)}; may be left out"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        values = call.values
        if problems := list(_lacking(values)):
            raise InputError(*problems)
        if values["paint"] is None and not several_regions(values["regions"]):
            return
        regions = self._regions(values, made)
        size = self._size(regions[0], call, made)
        regions = [
            Region(each.name, each.inside if size is None else nearest_resized(each.inside, size), each.words)
            for each in regions
        ]
        drawn = made.size or call.size
        grid = drawn[0] // self.factor, drawn[1] // self.factor
        self._fill_noise(regions, grid, call, made)
        form: PaintForm = values["paint_form"]
        strength = USUAL_STRENGTHS[form] if values["paint_strength"] is None else float(values["paint_strength"])
        tokens = self._tokens(regions, call, made)
        if strength == 0 or not any(region.words.weight for region in regions):
            return
        if any(each.graph in made.lora for each in self.graphs):
            raise InputError(
                "paint: expected no LoRA of the denoiser beside painted words, whose graph takes none; fold it with "
                "x2i export --lora, or leave one of the two out"
            )
        made.slots |= self._maps(regions, tokens, grid, call.rows)
        made.paint = Painted(frozenset(each.graph for each in self.graphs), PaintGains(strength, form))

    def _regions(self, values: Mapping[str, Any], made: PreparedInputs) -> list[Region]:
        """Those of the map, and then those of masks, all of one size. Raises InputError."""
        found, problems = list[Region](), list[str]()
        for read in (
            lambda: [] if values["paint"] is None else map_regions(values["paint"], values["paint_words"], made.notes),
            lambda: mask_regions(values["regions"], made.notes),
        ):
            try:
                found += read()
            except InputError as error:
                problems += error.problems
        if not found and not problems:
            problems.append("paint: expected a colour of the map with words, got none; paint one of those in the words")
        problems += [
            f"{each.name}: expected {_by(found[0].inside.shape)} pixels (height x width) like {found[0].name}, got "
            f"{_by(each.inside.shape)}; scale it"
            for each in found[1:]
            if each.inside.shape != found[0].inside.shape
        ]
        if problems:
            raise InputError(*problems)
        return found

    def _size(self, first: Region, call: CallContext, made: PreparedInputs) -> tuple[int, int] | None:
        """(height, width) that regions are scaled to, None where they stay. Where nothing else says how large the
        picture is, they do. Raises InputError for a map of less than one cell."""
        height, width = first.inside.shape
        fitting = height // self.multiple * self.multiple, width // self.multiple * self.multiple
        wanted = made.size
        if wanted is None and (call.values["size"] is not None or call.values["noise"] is not None):
            wanted = call.size
        if wanted is None:
            if 0 in fitting:
                raise InputError(
                    f"{first.name}: expected at least {self.multiple} pixels a side, got {height}x{width}; paint a "
                    "larger one, or give size"
                )
            made.size = fitting
            if fitting != (height, width):
                made.notes.append(
                    f"paint: drawn at {_by(fitting)} pixels (height x width), the next smaller multiples of "
                    f"{self.multiple} of the map's {height}x{width}"
                )
            return None
        if wanted == fitting:
            return None
        made.notes.append(
            f"paint: the map is scaled from {height}x{width} to {_by(wanted)} pixels (height x width), to the nearest "
            "pixel"
        )
        return wanted

    def _tokens(self, regions: Sequence[Region], call: CallContext, made: PreparedInputs) -> list[np.ndarray]:
        """How often each token of the context is a region's, float32 [T], region by region. Raises InputError."""
        tokenizer = made.tokenizer or call.tokenizer
        assert tokenizer is not None, "painted words without a prompt to stand in"
        if not is_text(call.prompt):
            return []
        read = [(ids_of_prompt(call, made, each), each) for each in (tokenizer, *call.further[: self.texts - 1])]
        counts, problems, rest = list[np.ndarray](), list[str](), np.zeros(self.rest, np.float32)
        for region in regions:
            try:
                own = [label_counts(ids, region.words.label, each) for ids, each in read]
                counts.append(np.concatenate([*own, rest]))
            except InputError as error:
                problems += [f"{region.name}: {problem}" for problem in error.problems]
        if problems:
            raise InputError(*problems)
        return counts

    def _maps(
        self, regions: Sequence[Region], tokens: Sequence[np.ndarray], grid: tuple[int, int], rows: int
    ) -> NamedTensors:
        """The maps at every size, and nothing for the tokens' scores."""
        planes, found = [_weighted(region) for region in regions], NamedTensors()
        for factor in self.factors if tokens else ():
            queries = latents_grid(grid, factor)
            columns = [region_columns(plane, queries, self.factor) for plane in planes]
            weights = np.stack(columns, axis=1) @ np.stack(tokens)
            found[painted_name(factor)] = np.stack([np.zeros_like(weights), weights][-rows:])
            found[KEY_BIAS] = np.zeros((1, weights.shape[1]), np.float32)
        return found

    def _fill_noise(
        self, regions: Sequence[Region], grid: tuple[int, int], call: CallContext, made: PreparedInputs
    ) -> None:
        """The noise of those regions that have a seed, recorded or drawn."""
        recorded, masks, draws = call.values["noise"], list[np.ndarray](), list[np.ndarray]()
        for number, region in enumerate(regions):
            given = recorded.get(region_draw(number)) if isinstance(recorded, Mapping) else None
            if region.words.seed is None:
                continue
            shape = self.channels, *grid
            draws.append(drawn_noise(region.words.seed, shape) if given is None else given[0, 0])
            inside = region.inside.astype(np.float32)
            masks.append(inside if region.words.blur is None else blurred(inside, region.words.blur))
        if draws:
            made.slots |= regions_noise(masks, draws)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        """Those of its graph's inputs; `known` has a key's, [rows, tokens, ...], under the name `key`."""
        grid = call.size[0] // self.factor, call.size[1] // self.factor
        tokens = known["key"][1]
        maps = {
            painted_name(factor): (call.rows, int(np.prod(latents_grid(grid, factor))), tokens)
            for factor in self.factors
        }
        return maps | {KEY_BIAS: (call.rows, tokens), GAIN_MAX: (call.rows,), GAIN_DEVIATION: (call.rows,)}


def paint_problems(paint: PaintInput, graphs: set[str]) -> Iterator[str]:
    """What does not fit, given the graphs present."""
    missing = [name for each in paint.graphs for name in (each.graph, each.variant) if name not in graphs]
    if missing:
        yield f"paint: expected the graphs {', '.join(missing)}, found none; export the bundle again"
    layers = [each.layers for each in paint.graphs]
    if not layers or not all(layers) or any(factor & (factor - 1) for factor in paint.factors):
        yield "paint: expected layers whose latents were halved some times, got others; export the bundle again"


def _lacking(values: Mapping[str, Any]) -> Iterator[str]:
    """What is of no use without something painted, or lacks its other half."""
    if values["paint"] is not None and values["paint_words"] is None:
        yield "paint: expected the words of its colours, got none; give paint_words (--words colours.json)"
    if values["paint"] is None and values["paint_words"] is not None:
        yield f"paint_words: expected a painted map for these words, got {short(values['paint'])}; give paint"
    strength = values["paint_strength"]
    if strength is not None and not is_number(strength):
        yield f"paint_strength: expected a number from 0 to {MOST_STRENGTH:g}, got {short(strength)}"
    elif strength and values["paint"] is None and not several_regions(values["regions"]):
        yield "paint_strength: expected a painted map or a region, got neither; give one, or leave it out"


def _weighted(region: Region) -> np.ndarray:
    """A region's weights, float32 [H, W]."""
    plane = region.inside.astype(np.float32) * np.float32(region.words.weight)
    return plane if region.words.blur is None else blurred(plane, region.words.blur)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
