"""The named tensors between graphs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..inputs.marker import MarkerInput
from ..inputs.mix import MixInput
from ..inputs.picture import PictureInput
from ..inputs.prompt import TextInput
from ..inputs.registry import Input
from ..inputs.sound import SoundInput
from ..inputs.strength import Injection
from ..inputs.word import WordInput
from ..sampling.schedule import Schedule
from .preset import Preset

NamedTensors = dict[str, np.ndarray]


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
class Conditioner:
    """Turns what the caller gives into slots by a chain of graphs; the unconditional side takes the same way.

    Conditioners run in order and share all slots.
    """

    stages: tuple[GraphCall, ...]
    text: TextInput | None = None
    word: WordInput | None = None
    picture: PictureInput | None = None
    marker: MarkerInput | None = None
    sound: SoundInput | None = None
    mix: MixInput | None = None

    def inputs(self) -> list[Input]:
        given = (self.text, self.word, self.marker, self.picture, self.sound, self.mix)
        return [one for one in given if one is not None]


@dataclass(frozen=True, slots=True)
class Delay:
    """Keeps a segment back until a run's UNet calls, counted from 0, have passed a number: the first one always.

    That number is the caller's `start_merge_step`, else (1 - alpha) * steps in doubles, unrounded, where the caller
    gives `alpha`, else the one here. Source: FastComposer's delayed subject conditioning (arXiv 2305.10431).
    """

    start_merge_step: int

    def last_call(
        self, steps: int, alpha: float | None = None, start_merge_step: int | None = None, share: float | None = None
    ) -> float:
        """The last call that the segment does not serve; `share` of the steps is a preset's, for who says neither."""
        if alpha is not None:
            # A float32 would be rounded on the way.
            return (1 - float(alpha)) * steps
        if start_merge_step is None and share is not None:
            return share * steps
        return self.start_merge_step if start_merge_step is None else start_merge_step

    def options(self) -> tuple[str, ...]:
        return ("alpha", "start_merge_step")


@dataclass(frozen=True, slots=True)
class Segment:
    """The denoiser in charge from `from_timestep` downwards, until the next segment's; `context` maps inputs to slots.

    Its graph also takes `latents` [B, C, h, w] and `timestep` [B], and returns `noise` like the latents. With `delay`
    it waits longer, and the segment before it stays in charge.
    """

    graph: str
    from_timestep: float
    context: dict[str, str]
    delay: Delay | None = None


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598): u + scale (c - u), in one batch [unconditional, conditional]."""

    scale: float = 7.5


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """What the system samples with when the caller says nothing; `aliases` gives a name the system's own variant."""

    name: str
    steps: int = 50
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Latents to picture. The graph maps `latents` [B, channels, h, w] to `image` [B, 3, h*factor, w*factor] in -1..1.

    `to_uint8` tells how the original makes bytes; `size` is the default (height, width) in pixels, and every size
    must be a multiple of `size_multiple`.
    """

    graph: str
    channels: int
    factor: int
    size: tuple[int, int]
    size_multiple: int
    to_uint8: Literal["truncate", "round"] = "round"


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

    def options(self) -> set[str]:
        """Those of a call's options that only some plans take, and that this one takes."""
        inputs = [given for conditioner in self.conditioners for given in conditioner.inputs()]
        return {
            name for given in (*inputs, self.injection, self.delay) if given is not None for name in given.options()
        }

    def graphs(self, preset: str | None = None) -> list[str]:
        """Names of all graphs that a run needs, options still in braces; with a preset its variants."""
        stages = [stage.graph for conditioner in self.conditioners for stage in conditioner.stages]
        chosen = Preset() if preset is None else self.presets[preset]
        denoisers = [variant.name for segment in self.segments for variant in chosen.variants(segment.graph)]
        return list(dict.fromkeys([*stages, *denoisers, self.decoder.graph]))

    def in_loop(self, graph: str) -> bool:
        """Whether a graph, or the one that it is a variant of, serves a segment, and so is called by the steps."""
        return any(graph == segment.graph or graph.startswith(f"{segment.graph}.") for segment in self.segments)

    def problems(self, graphs: set[str]) -> list[str]:
        """What does not fit together, given the names of the graphs present."""
        found = [f"plan: no graph matches {name!r}" for name in self.graphs() if not matches(name, graphs)]
        if not self.segments:
            found.append("plan: expected at least one denoising segment, got none")
        if self.segments and self.segments[0].delay is not None:
            found.append("plan: expected a first segment that serves the first call, got one with a delay")
        starts = [segment.from_timestep for segment in self.segments]
        if starts != sorted(starts, reverse=True):
            found.append(f"plan: segments must start at falling timesteps, got {starts}")
        inputs = [given for conditioner in self.conditioners for given in conditioner.inputs()]
        slots = {slot for given in (*inputs, self.injection) if given is not None for slot in given.slots()}
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
        return found + self._word_problems() + self._marker_problems()

    def _marker_problems(self) -> list[str]:
        """A marker stands in a prompt, and the pictures of the marked nouns come with it."""
        found = []
        markers = [conditioner for conditioner in self.conditioners if conditioner.marker is not None]
        if any(conditioner.text is None for conditioner in markers):
            found.append("plan: a marker needs a prompt to stand in, got a conditioner without text")
        if len({conditioner.marker.default for conditioner in markers if conditioner.marker is not None}) > 1:
            found.append("plan: expected one marker, got several")
        subjects = any(c.picture is not None and c.picture.kind == "subjects" for c in self.conditioners)
        if subjects != bool(markers):
            got = "pictures alone" if subjects else "a marker alone"
            found.append(f"plan: expected a marker and the subjects' pictures together, got {got}")
        return found

    def _word_problems(self) -> list[str]:
        """A placeholder word stands in a prompt, and its embeddings come from an earlier conditioner."""
        found, written = [], set[str]()
        for conditioner in self.conditioners:
            if conditioner.word is not None and conditioner.text is None:
                found.append("plan: a placeholder word needs a prompt to stand in, got a conditioner without text")
            if conditioner.word is not None and "words" not in written:
                found.append("plan: a placeholder word needs the slot 'words', which no earlier conditioner writes")
            written |= {slot for stage in conditioner.stages for slot in stage.outputs.values()}
        at_word = self.injection is not None and self.injection.at_word
        if at_word and not any(conditioner.word for conditioner in self.conditioners):
            found.append("plan: an attention weighted at the word needs a conditioner with a word, got none")
        return found


def matches(pattern: str, graphs: set[str]) -> dict[str, str]:
    """The graphs a plan's graph name stands for, by the option's value ("" for a plain name)."""
    if pattern in graphs:
        return {"": pattern}
    prefix, brace, suffix = re.split(r"(\{\w+\})", pattern)[:3] if "{" in pattern else (pattern, "", "")
    if not brace:
        return {}
    return {
        name[len(prefix) : len(name) - len(suffix)]: name
        for name in sorted(graphs)
        if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
    }
