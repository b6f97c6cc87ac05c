"""The plan: a pipeline as data. A new system is a new plan, not a new loop.

Tensors move between graphs through named *slots*. Conditioners fill them once per picture, the segments of its
processes read them at every step. `key.*` on both sides of a mapping stands for all tensors whose names begin so. A
graph name may hold an option in braces, `translator.{language}`: the caller's choice completes it, and the graph is
opened when it is first chosen.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from ..inputs.delay import Delay
from ..inputs.lora import LoraInput, lora_problems
from ..inputs.option import Input
from ..inputs.paint import PaintInput, paint_problems
from ..inputs.pictures.start import StartInput
from ..inputs.pictures.start_picture import StartPicture
from ..inputs.pictures.style import StyleInput
from ..inputs.pictures.subjects import SubjectsInput
from ..inputs.pictures.variation import VariationInput
from ..inputs.registry import input_options, input_types, option_names
from ..inputs.sound import SoundStart
from ..inputs.strength import Injection
from ..inputs.text.items import ItemsInput, item_problems
from ..inputs.text.marker import MarkerInput
from ..inputs.text.prompt import TextInput
from ..inputs.text.word import WordInput
from ..processes.latents import LatentsProcess
from ..processes.tails import TextTail
from ..processes.tokens import TokensProcess
from ..processes.vectors import VectorsProcess
from ..token_samplers.joint.process import JointDiffusion
from .calls import GraphCall, PlannedCall, matches
from .preset import Preset

Kind = TypeVar("Kind")
Process = LatentsProcess | TokensProcess | VectorsProcess
"""What the loop walks."""
MOST_PARTS = 256
"""Conditioners with their stages of one plan; the longest that is known has 9."""
MOST_PROCESSES = 16
IS_NULL = "is_null"
"""The slot, bool [rows of the guidance], that is true on the row that stands for nothing: no prompt, no picture."""
UNCONDITIONAL = "unconditional"
"""The slot, bool [rows of the guidance], that is true on the row that is steered away from, whatever it says."""


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

    @property
    def optional(self) -> bool:
        """Whether a run may go without its stages: they read a start that the caller need not give."""
        start, varied = self.find(StartInput), self.find(VariationInput)
        return (
            self.find(SoundStart) is not None
            or self.find(StartPicture) is not None
            or self.find(StyleInput) is not None
            or (varied is not None and varied.prompts)
            or (start is not None and not start.required)
        )

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
class Plan:
    """Everything the loop needs to know of a system; `presets` are ways through it with fewer or cheaper calls.

    The processes run one after the other; each but the last `writes` its last state to a slot, which has a row for each
    picture and which those behind it may read; one whose slot a conditioner has filled is left out. A conditioner that
    reads such a slot runs right before the process behind it, and what it makes has a row for each side of that
    process's guidance and each picture. A caller's size is the last process's, and that of all whose own is not fixed;
    steps, guidance and sampler are those of the `main` one, the last without a stage of its own, and of all `levels`.
    """

    conditioners: tuple[Conditioner, ...]
    processes: tuple[Process, ...]
    injection: Injection | None = None
    presets: dict[str, Preset] = field(default_factory=dict)
    lora: LoraInput | None = None
    paint: PaintInput | None = None

    @property
    def process(self) -> Process:
        """The last one, which makes what the caller gets."""
        return self.processes[-1]

    @property
    def main(self) -> Process:
        """The one whose steps, guidance and sampler are the call's own."""
        return next((each for each in reversed(self.processes) if each.stage is None), self.process)

    @property
    def levels(self) -> tuple[Process, ...]:
        """Those whose steps, guidance and sampler are the call's own: the main one, and before it each coarser level of
        its latents, which has no stage of its own."""
        if not self.walks_latents:
            return (self.main,)
        return tuple(
            each
            for each in self.processes
            if each is self.main or (isinstance(each, LatentsProcess) and each.stage is None)
        )

    def is_level(self, process: Process) -> bool:
        """Whether a process is one of the levels."""
        return any(process is level for level in self.levels)

    @property
    def latent_levels(self) -> tuple[LatentsProcess, ...]:
        """The levels of a plan that walks latents or pixels."""
        return tuple(level for level in self.levels if isinstance(level, LatentsProcess))

    def draw_prefix(self, process: Process) -> str:
        """What the names of a process's draws begin with: nothing for the main one, else its stage or its slot."""
        if process.stage is not None:
            return f"{process.stage.kind}_"
        return "" if process is self.main else f"{process.writes}_"

    @property
    def latents(self) -> LatentsProcess:
        """The main one, of a plan that walks latents or pixels."""
        assert isinstance(self.main, LatentsProcess), f"latents of a plan that walks {self.main.kind}"
        return self.main

    @property
    def tokens(self) -> TokensProcess:
        """The last one, of a plan that walks tokens."""
        assert isinstance(self.process, TokensProcess), f"tokens of a plan that walks {self.process.kind}"
        return self.process

    @property
    def walks_latents(self) -> bool:
        """Whether its main process walks latents or pixels, by a sampler that a caller may choose."""
        return isinstance(self.main, LatentsProcess)

    def conditioners_before(self, number: int) -> tuple[Conditioner, ...]:
        """Those that run right before the process of a number: all that need not wait before the first."""
        return tuple(each for each, place in zip(self.conditioners, self._places(), strict=True) if place == number)

    def _places(self) -> list[int]:
        """The number of the process before which each conditioner runs."""
        made = {
            process.writes: number + 1 for number, process in enumerate(self.processes) if process.writes is not None
        }
        found = []
        for conditioner in self.conditioners:
            read = {slot for stage in conditioner.stages for slot in stage.inputs.values()}
            place = max((made.get(slot, 0) for slot in read), default=0)
            if place:
                made |= {slot: place for stage in conditioner.stages for slot in stage.outputs.values()}
            found.append(place)
        return found

    def left_out(self, filled: Collection[str]) -> frozenset[int]:
        """The numbers of the processes that a run with these slots filled before the first goes without."""
        return frozenset(number for number, process in enumerate(self.processes) if process.writes in filled)

    @property
    def delay(self) -> Delay | None:
        """The rule by which a later segment waits; plans have one at most."""
        segments = (segment for process in self.processes for segment in process.segments)
        return next((segment.delay for segment in segments if segment.delay is not None), None)

    def inputs(self) -> Iterator[Input]:
        """Everything that it takes from the caller, in the order in which it is prepared."""
        for conditioner in self.conditioners:
            yield from conditioner.inputs
        yield from (each for each in (self.injection, self.delay, self.lora, self.paint) if each is not None)
        for process in self.processes:
            yield from process.inputs()

    def find(self, kind: type[Kind]) -> Kind | None:
        """Its first input of a kind."""
        return next((each for each in self.inputs() if isinstance(each, kind)), None)

    def gives(self, prompt: str | None, values: Mapping[str, Any]) -> tuple[str, ...]:
        """What a call with these options draws: of a picture and its caption not the one that is given whole."""
        joint, all_kinds = self.find(JointDiffusion), self.process.gives
        drawn = all_kinds if joint is None else joint.drawn(prompt, values)
        # Where both are given, the call is refused.
        return tuple(kind for kind in all_kinds if kind in drawn) or all_kinds

    def options(self) -> set[str]:
        """Those of a call's options that only some plans take, and that this one takes."""
        return option_names(self.inputs()) & input_options()

    def denoisers(self) -> list[str]:
        """Names of the graphs that the steps call."""
        return list(dict.fromkeys(segment.graph for process in self.processes for segment in process.segments))

    def main_denoisers(self) -> list[str]:
        """Names of those that the main process's steps call, for which presets have variants."""
        return list(dict.fromkeys(segment.graph for segment in self.main.segments))

    def needed_graphs(self, preset: str | None = None) -> list[str]:
        """Those of `graphs` that every run calls, whatever start it is given and whether or not its steps are shown."""
        calls = {
            optional: {stage.graph for each in self.conditioners if each.optional == optional for stage in each.stages}
            for optional in (True, False)
        }
        by_preview = preset is not None and self.presets[preset].preview_decoder
        unneeded = calls[True] - calls[False]
        unneeded |= {graph for process in self.processes for graph in process.optional_graphs(by_preview)}
        made = {slot for each in self.conditioners for stage in each.stages for slot in stage.outputs.values()}
        for number in self.left_out(made):
            unneeded |= self.process_graphs(self.processes[number])
        return [graph for graph in self.graphs(preset) if graph not in unneeded]

    def process_graphs(self, process: Process) -> set[str]:
        """Names of the graphs of a process's steps and of its end."""
        return {segment.graph for segment in process.segments} | set(process.tail_graphs())

    def start_graphs(self) -> list[str]:
        """Names of the graphs that make latents of pictures, a row for each picture that is drawn."""
        slots = self.picture_slots()
        calls = (stage for each in self.conditioners for stage in each.stages)
        return list(dict.fromkeys(call.graph for call in calls if not slots.isdisjoint(call.inputs.values())))

    def picture_slots(self) -> frozenset[str]:
        """Slots with a row for each picture that is drawn: those of a start, and what is made of them. All others have
        one for each side of the guidance, or one for both."""
        found = set[str]()
        for conditioner in self.conditioners:
            start = conditioner.find(StartPicture)
            found |= set() if start is None else set(start.slots())
            for stage in conditioner.stages:
                found |= set(stage.outputs.values()) if found & set(stage.inputs.values()) else set()
        return frozenset(found)

    def graphs(self, preset: str | None = None) -> list[str]:
        """Names of all graphs that a run may need, options still in braces; with a preset its variants."""
        stages = [stage.graph for conditioner in self.conditioners for stage in conditioner.stages]
        chosen = Preset() if preset is None else self.presets[preset]
        main = self.main_denoisers()
        denoisers = [
            name
            for graph in self.denoisers()
            for name in ([variant.name for variant in chosen.variants(graph)] if graph in main else [graph])
        ]
        tails = [graph for process in self.processes for graph in process.tail_graphs()]
        return list(dict.fromkeys([*stages, *denoisers, *tails]))

    def tokenizers(self) -> list[str]:
        """The files of all tokenizers, by which prompts are read and texts written."""
        found = (each.text or each.find(ItemsInput) for each in self.conditioners)
        read = [each.tokenizer for each in found if each is not None]
        tails = (tail for process in self.processes if isinstance(process, TokensProcess) for tail in process.tails)
        return read + [tail.tokenizer for tail in tails if isinstance(tail, TextTail)]

    def calls(self) -> Iterator[PlannedCall]:
        """What the plain loop asks of each graph."""
        for conditioner in self.conditioners:
            for stage in conditioner.stages:
                yield PlannedCall(stage.graph, stage.inputs, stage.outputs)
        for process in self.processes:
            yield from process.calls()

    def in_loop(self, graph: str) -> bool:
        """Whether a graph, or the one that it is a variant of, serves a segment, and so is called by the steps."""
        return self.denoiser_of(graph) is not None

    def denoiser_of(self, graph: str) -> str | None:
        """The segments' graph that a graph is, or is a variant of; None where it serves none."""
        return next((each for each in self.denoisers() if graph == each or graph.startswith(f"{each}.")), None)

    def problems(self, graphs: set[str]) -> list[str]:
        """What does not fit together, given the names of the graphs present."""
        if not 1 <= len(self.processes) <= MOST_PROCESSES:
            return [f"plan: expected 1 to {MOST_PROCESSES} processes, got {len(self.processes)}"]
        found = [f"plan: no graph matches {name!r}" for name in self.graphs() if not matches(name, graphs)]
        calls = sum(len(conditioner.stages) for conditioner in self.conditioners)
        if max(calls, len(self.conditioners)) > MOST_PARTS:
            found.append(f"plan: expected at most {MOST_PARTS} conditioners and stages of theirs, got {calls}")
        found += [
            f"plan: expected no choice but {{language}} in a graph's name, got {name!r}"
            for name in self.graphs()
            if set("{}") & set(name.replace("{language}", "", 1))
        ]
        for process in self.processes:
            found += process.problems()
        found += self._slot_problems()
        for conditioner in self.conditioners:
            found += [] if conditioner.find(ItemsInput) is None else item_problems(conditioner.stages)
        if self.walks_latents and any(level.way != self.latents.way for level in self.latent_levels):
            found.append("plan: expected one schedule, sampler and guidance of all levels of the latents, got several")
        found += [] if self.lora is None else lora_problems(self.lora, graphs)
        found += [] if self.paint is None else paint_problems(self.paint, graphs)
        denoisers = set(self.main_denoisers())
        found += [
            problem for name, preset in self.presets.items() for problem in preset.problems(name, graphs, denoisers)
        ]
        shows = self.walks_latents and self.latents.preview is not None
        found += [
            f"presets.{name}: expected a decoder of previews, which is to draw the picture, got none"
            for name, preset in self.presets.items()
            if preset.preview_decoder and not shows
        ]
        return list(dict.fromkeys(found)) + self._word_problems() + self._marker_problems()

    def lora_graphs(self) -> dict[str, str]:
        """The graphs that take LoRAs, by those in whose place they do."""
        return {} if self.lora is None else {each.graph: each.variant for each in self.lora.graphs}

    def side_graphs(self) -> set[str]:
        """The graphs that serve only where a call brings a LoRA, or painted words."""
        return {*self.lora_graphs().values(), *([] if self.paint is None else self.paint.variants)}

    def _slot_problems(self) -> Iterator[str]:
        """Slots that are read before anything fills them, and processes in the wrong order."""
        slots = {IS_NULL, UNCONDITIONAL} | {slot for each in self.inputs() for slot in each.slots()}
        for number, process in enumerate(self.processes):
            stages = [stage for each in self.conditioners_before(number) for stage in each.stages]
            slots |= {slot for stage in stages for slot in stage.outputs.values()}
            read = [slot for stage in stages for slot in stage.inputs.values()]
            read += [slot for segment in process.segments for slot in segment.context.values()]
            read += [slot for context in process.tail_context().values() for slot in context.values()]
            unwritten = [slot for slot in dict.fromkeys(read) if slot not in slots]
            yield from (f"plan: slot {slot!r} is read but never written" for slot in unwritten)
            if (process.writes is None) != (number == len(self.processes) - 1):
                yield "plan: expected every process but the last to write a slot, and that one to write none"
            if process.writes is not None:
                slots.add(process.writes)

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
