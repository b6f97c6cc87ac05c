"""The plan: a pipeline as data. A new system is a new plan, not a new loop.

Tensors move between graphs through named *slots*. Conditioners fill them once per picture, segments read them at every
step. `key.*` on both sides of a mapping stands for all tensors whose names begin so. A graph name may hold an option in
braces, `translator.{language}`: the caller's choice completes it, and the graph is opened when it is first chosen.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

from ..errors import InputError
from ..inputs.delay import Delay
from ..inputs.marker import MarkerInput
from ..inputs.option import Input
from ..inputs.prompt import TextInput
from ..inputs.registry import input_options, input_types, option_names
from ..inputs.strength import Injection
from ..inputs.subjects import SubjectsInput
from ..inputs.word import WordInput
from ..samplers.registry import make_sampler
from ..samplers.sampler import Sampler
from ..samplers.schedule import Schedule
from ..samplers.settings import SamplerSettings
from .preset import Preset
from .records import Count, Few, Finite, Side

Kind = TypeVar("Kind")
MOST_PARTS = 256
"""Conditioners with their stages, and segments, of one plan; the longest that is known has 9."""


def expand_wildcards(mapping: dict[str, str], tensors: Iterable[str]) -> dict[str, str]:
    """A plan's mapping with `key.*` spelled out for the graph's tensors: tensor name to slot name."""
    names = list(tensors)
    out: dict[str, str] = {}
    for name, slot in mapping.items():
        if name.endswith(".*"):
            out |= {t: slot[:-1] + t[len(name) - 1 :] for t in names if t.startswith(name[:-1])}
        else:
            out[name] = slot
    return out


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One graph call: `inputs` maps graph inputs to slots, `outputs` maps graph outputs to slots."""

    graph: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """What a plan asks of one graph: tensors that it feeds and takes, each with its slot, and the shapes that it counts
    on, free sizes as names."""

    graph: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conditioner:
    """Turns what the caller gives into slots by a chain of graphs; the unconditional side takes the same way.

    Conditioners run in order and share all slots. `inputs` fill slots before the first of the `stages`. In a manifest
    each input stands under its own key.
    """

    stages: tuple[GraphCall, ...]
    inputs: tuple[Input, ...] = ()

    @property
    def text(self) -> TextInput | None:
        """The prompt that it reads."""
        return self.find(TextInput)

    def find(self, kind: type[Kind]) -> Kind | None:
        """Its input of a kind."""
        return next((each for each in self.inputs if isinstance(each, kind)), None)

    @classmethod
    def key_types(cls) -> dict[str, Any]:
        return {"stages": tuple[GraphCall, ...], **input_types()}

    @classmethod
    def required_keys(cls) -> frozenset[str]:
        return frozenset({"stages"})

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> Self:
        return cls(values["stages"], tuple(values[key] for key in input_types() if values.get(key) is not None))

    def to_keys(self) -> dict[str, Any]:
        given = {each.KEY: each for each in self.inputs}
        return {"stages": self.stages, **{key: given[key] for key in input_types() if key in given}}


@dataclass(frozen=True, slots=True)
class Segment:
    """The denoiser in charge from `from_timestep` downwards, until the next segment's; `context` maps inputs to slots.

    Its graph also takes `latents` [B, C, h, w] and `timestep` [B], and returns `noise` like the latents. With `delay`
    it waits longer, and the segment before it stays in charge.
    """

    graph: str
    from_timestep: Finite
    context: dict[str, str]
    delay: Delay | None = None


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598): u + scale (c - u), in one batch [unconditional, conditional]."""

    scale: Finite = 7.5


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """What the system samples with when the caller says nothing; `aliases` gives a name the system's own variant.

    `settings` are those of the sampler `name`; another one that a caller names has its own.
    """

    name: str
    steps: Count = 50
    aliases: dict[str, str] = field(default_factory=dict)
    settings: SamplerSettings = field(default_factory=SamplerSettings)

    def describe(self) -> str:
        """The sampler and what is set on it, in words."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.given().items())
        return f"{self.name} ({settings})" if settings else self.name

    def make(
        self,
        schedule: Schedule,
        name: str | None = None,
        steps: int | None = None,
        settings: SamplerSettings | None = None,
    ) -> Sampler:
        """The sampler `name`, or this one, for `steps` steps; `settings` stand before its own.

        Raises InputError as `make_sampler` does.
        """
        chosen = self.name if name is None else name
        own = self.settings.given() if chosen == self.name else {}
        known = self.aliases.get(chosen, chosen) if isinstance(chosen, str) else chosen
        merged = (settings or SamplerSettings()).over(own)
        return make_sampler(known, schedule, self.steps if steps is None else steps, merged)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Latents to picture. The graph maps `latents` [B, channels, h, w] to `image` [B, 3, h*factor, w*factor] in -1..1.

    A `grey` one gives [B, 1, ...]. `to_uint8` tells how the original makes bytes; `size` is the default (height, width)
    in pixels, and every size must be a multiple of `size_multiple`.
    """

    graph: str
    channels: Few
    factor: Few
    size: tuple[Side, Side]
    size_multiple: Side
    to_uint8: Literal["truncate", "round"] = "round"
    grey: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the loop needs to know of a system; `presets` are ways through it with fewer or cheaper calls."""

    conditioners: tuple[Conditioner, ...]
    segments: tuple[Segment, ...]
    sampler: SamplerChoice
    decoder: Decoder
    injection: Injection | None = None
    schedule: Schedule = field(default_factory=Schedule)
    guidance: Guidance = field(default_factory=Guidance)
    presets: dict[str, Preset] = field(default_factory=dict)

    @property
    def delay(self) -> Delay | None:
        """The rule by which a later segment waits; plans have one at most."""
        return next((segment.delay for segment in self.segments if segment.delay is not None), None)

    def segment_at(self, timestep: float, delayed: bool) -> int:
        """The number of the last segment that has begun; a delayed one has not while `delayed`."""
        return max(
            number
            for number, segment in enumerate(self.segments)
            if segment.from_timestep >= timestep and not (delayed and segment.delay is not None)
        )

    def inputs(self) -> Iterator[Input]:
        """Everything that it takes from the caller, in the order in which it is prepared."""
        for conditioner in self.conditioners:
            yield from conditioner.inputs
        yield from (each for each in (self.injection, self.delay) if each is not None)

    def find(self, kind: type[Kind]) -> Kind | None:
        """Its first input of a kind."""
        return next((each for each in self.inputs() if isinstance(each, kind)), None)

    def options(self) -> set[str]:
        """Those of a call's options that only some plans take, and that this one takes."""
        return option_names(self.inputs()) & input_options()

    def graphs(self, preset: str | None = None) -> list[str]:
        """Names of all graphs that a run needs, options still in braces; with a preset its variants."""
        stages = [stage.graph for conditioner in self.conditioners for stage in conditioner.stages]
        chosen = Preset() if preset is None else self.presets[preset]
        denoisers = [variant.name for segment in self.segments for variant in chosen.variants(segment.graph)]
        return list(dict.fromkeys([*stages, *denoisers, self.decoder.graph]))

    def calls(self) -> Iterator[PlannedCall]:
        """What the plain loop asks of each graph."""
        for conditioner in self.conditioners:
            for stage in conditioner.stages:
                yield PlannedCall(stage.graph, stage.inputs, stage.outputs)
        latents = ("batch", self.decoder.channels, "height", "width")
        for segment in self.segments:
            fed = segment.context | {"latents": "latents", "timestep": "timestep"}
            shapes = {"latents": latents, "noise": latents, "timestep": ("batch",)}
            yield PlannedCall(segment.graph, fed, {"noise": "noise"}, shapes)
        image = ("batch", 1 if self.decoder.grey else 3, "height", "width")
        shapes = {"latents": latents, "image": image}
        yield PlannedCall(self.decoder.graph, {"latents": "latents"}, {"image": "image"}, shapes)

    def in_loop(self, graph: str) -> bool:
        """Whether a graph, or the one that it is a variant of, serves a segment, and so is called by the steps."""
        return any(graph == segment.graph or graph.startswith(f"{segment.graph}.") for segment in self.segments)

    def problems(self, graphs: set[str]) -> list[str]:
        """What does not fit together, given the names of the graphs present."""
        found = [f"plan: no graph matches {name!r}" for name in self.graphs() if not matches(name, graphs)]
        if not 1 <= len(self.segments) <= MOST_PARTS:
            found.append(f"plan: expected 1 to {MOST_PARTS} denoising segments, got {len(self.segments)}")
        calls = sum(len(conditioner.stages) for conditioner in self.conditioners)
        if max(calls, len(self.conditioners)) > MOST_PARTS:
            found.append(f"plan: expected at most {MOST_PARTS} conditioners and stages of theirs, got {calls}")
        if self.segments and self.segments[0].delay is not None:
            found.append("plan: expected a first segment that serves the first call, got one with a delay")
        starts = [segment.from_timestep for segment in self.segments]
        if starts != sorted(starts, reverse=True):
            found.append(f"plan: segments must start at falling timesteps, got {starts}")
        if starts and starts[0] < self.schedule.train_steps - 1:
            found.append(f"plan: expected a first segment that serves every timestep, got one from {starts[0]:g} on")
        found += [
            f"plan: expected no choice but {{language}} in a graph's name, got {name!r}"
            for name in self.graphs()
            if set("{}") & set(name.replace("{language}", "", 1))
        ]
        found += self._decoder_problems()
        slots = {slot for each in self.inputs() for slot in each.slots()}
        slots |= {slot for c in self.conditioners for stage in c.stages for slot in stage.outputs.values()}
        read = [slot for segment in self.segments for slot in segment.context.values()]
        read += [slot for c in self.conditioners for stage in c.stages for slot in stage.inputs.values()]
        found += [f"plan: slot {slot!r} is read but never written" for slot in dict.fromkeys(read) if slot not in slots]
        if len({segment.delay for segment in self.segments} - {None}) > 1:
            found.append("plan: expected one delay at most, got several")
        denoisers = {segment.graph for segment in self.segments}
        found += [
            problem for name, preset in self.presets.items() for problem in preset.problems(name, graphs, denoisers)
        ]
        return found + self._sampling_problems() + self._word_problems() + self._marker_problems()

    def _sampling_problems(self) -> list[str]:
        """The plan's own sampler and count must run."""
        try:
            self.sampler.make(self.schedule)
        except InputError as error:
            return [f"plan: {problem}" for problem in error.problems]
        return []

    def _decoder_problems(self) -> Iterator[str]:
        """Sizes that no picture of the decoder's can have."""
        decoder = self.decoder
        if decoder.size_multiple % decoder.factor:
            yield f"plan: expected sizes in multiples of the factor {decoder.factor}, got {decoder.size_multiple}"
        if any(side % decoder.size_multiple for side in decoder.size):
            yield f"plan: expected a size in multiples of {decoder.size_multiple}, got {list(decoder.size)}"

    def _marker_problems(self) -> list[str]:
        """A marker stands in a prompt, and the pictures of the marked nouns come with it."""
        found = []
        markers = [
            (each, conditioner.text) for conditioner in self.conditioners if (each := conditioner.find(MarkerInput))
        ]
        if any(text is None for _, text in markers):
            found.append("plan: a marker needs a prompt to stand in, got a conditioner without text")
        if len({marker.default for marker, _ in markers}) > 1:
            found.append("plan: expected one marker, got several")
        subjects = self.find(SubjectsInput) is not None
        if subjects != bool(markers):
            got = "pictures alone" if subjects else "a marker alone"
            found.append(f"plan: expected a marker and the subjects' pictures together, got {got}")
        return found

    def _word_problems(self) -> list[str]:
        """A placeholder word stands in a prompt, and its embeddings come from an earlier conditioner."""
        found, written = [], set[str]()
        for conditioner in self.conditioners:
            placed = conditioner.find(WordInput) is not None
            if placed and conditioner.text is None:
                found.append("plan: a placeholder word needs a prompt to stand in, got a conditioner without text")
            if placed and "words" not in written:
                found.append("plan: a placeholder word needs the slot 'words', which no earlier conditioner writes")
            written |= {slot for stage in conditioner.stages for slot in stage.outputs.values()}
        at_word = self.injection is not None and self.injection.at_word
        if at_word and self.find(WordInput) is None:
            found.append("plan: an attention weighted at the word needs a conditioner with a word, got none")
        return found


def matches(pattern: str, graphs: set[str]) -> dict[str, str]:
    """The graphs a plan's graph name stands for, by the option's value ("" for a plain name)."""
    if pattern in graphs:
        return {"": pattern}
    found = re.fullmatch(r"([^{}]*)\{\w+\}([^{}]*)", pattern)
    if found is None:
        return {}
    prefix, suffix = found.groups()
    return {
        name[len(prefix) : len(name) - len(suffix)]: name
        for name in sorted(graphs)
        if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
    }
