"""The sizes that an engine serves: the plan is walked with the smallest, the usual and the largest call, and every free
size of every graph is read off on the way."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..bundle.calls import GraphCall, Tensor, expand_wildcards, matches
from ..bundle.manifest import Graph, Manifest
from ..bundle.plan import IS_NULL, UNCONDITIONAL, Plan, Process
from ..errors import InputError
from ..inputs.lora import DOWN, UP, padded_rank
from ..inputs.option import CallShape, Shape, short
from ..inputs.text.windows import WindowsInput
from ..inputs.text.word import WordInput
from ..processes.segment import Segment
from .key import Range

MOST_PICTURES, MOST_CHANNELS = 4, 8
"""Pictures of subjects, and channels of a sound, that an engine takes."""
MOST_PROMPT_WINDOWS, MOST_LEARNED = 3, 75
"""Windows of a prompt, and vectors of learned words, that an engine takes."""
USUAL_POSITIONS, MOST_POSITIONS = 160, 1024
"""Of texts and pictures in one sequence, where the language model reads as many: a picture of 144 and some words."""
TOKEN = r"\w+(?:\.\w+)*|//|[-+*()]"
MOST_TOKENS = 60
"""Of one size; exporters write up to 20."""
LARGEST_SIZE = 2**40
Sizes = dict[str, int]


def shape_ranges(
    manifest: Manifest,
    sizes: Iterable[tuple[int, int]] = (),
    count: int = 1,
    sides: int = 2,
    lora: int | None = None,
    paint: bool = False,
) -> dict[str, dict[str, Range]]:
    """The range of every free size, by graph and by the size's name in it; graphs without one have none.

    `sizes` are (height, width) in pixels: the first is the usual one, and the range spans them all; the plan's size
    where none is given. `count` is the largest number of pictures, and the usual one; `sides` are the usual rows of the
    guidance; with `lora`, the largest rank and the usual one, the graphs that take LoRAs are among those of the plan,
    and with `paint` the one that takes painted words. Raises InputError for what the plan cannot draw.
    """
    plan = manifest.plan
    wanted = list(sizes) or [plan.process.canvas.size]
    _check(plan, wanted, count)
    heights, widths = zip(*wanted, strict=True)
    word = plan.find(WordInput)
    most_words = 1 if word is None else word.most
    most_windows = 1 if plan.find(WindowsInput) is None else MOST_PROMPT_WINDOWS
    calls = (
        CallShape((min(heights), min(widths)), 1, rows=1),
        CallShape(wanted[0], count, sides, positions=USUAL_POSITIONS),
        CallShape(
            (max(heights), max(widths)),
            count,
            2,
            MOST_PICTURES,
            most_words,
            MOST_CHANNELS,
            most_windows,
            MOST_LEARNED,
            MOST_POSITIONS,
        ),
    )
    usual = None if lora is None else padded_rank(lora)
    least = None if lora is None else padded_rank(1)
    ranks = zip(calls, (least, usual, usual), strict=True)
    walks = [_PlanWalk(manifest, call, rank, paint).sizes() for call, rank in ranks]
    return {
        graph: {name: _range([walk[graph][name] for walk in walks]) for name in free}
        for graph, free in walks[0].items()
    }


def usual_shapes(inputs: Iterable[Tensor], ranges: Mapping[str, Range]) -> dict[str, Shape]:
    """The shape of every input of a graph in the usual call, by its name; `ranges` are those of its free sizes."""
    return {
        tensor.name: tuple(size if isinstance(size, int) else ranges[size][1] for size in tensor.shape)
        for tensor in inputs
    }


def _range(found: list[list[int]]) -> Range:
    """A graph may serve several times in one call; the last is what the loop does most."""
    least, usual, most = found
    return min(least), usual[-1], max(*least, *usual, *most)


def _check(plan: Plan, sizes: list[tuple[int, int]], count: int) -> None:
    problems = [problem for size in dict.fromkeys(sizes) for problem in plan.process.canvas.problems(size)]
    if count < 1:
        problems.append(f"count: expected 1 or more, got {count}")
    if problems:
        raise InputError(*problems)


class _PlanWalk:
    """The shapes of all slots in one call, filled as the runtime fills them."""

    def __init__(self, manifest: Manifest, call: CallShape, rank: int | None, paints: bool):
        self._graphs, self._plan, self._call = manifest.graphs, manifest.plan, call
        self._rank, self._takes_lora = rank, manifest.plan.lora_graphs()
        self._paint = manifest.plan.paint if paints else None
        self._slots: dict[str, Shape] = {}
        self._picture_slots = manifest.plan.picture_slots()
        self._found: dict[str, dict[str, list[int]]] = {}

    def sizes(self) -> dict[str, dict[str, list[int]]]:
        """Every free size of every graph, in the order of the graph's calls."""
        plan, call = self._plan, self._call
        if plan.injection is not None:
            self._slots |= plan.injection.shapes(call, self._slots)
        self._slots |= {IS_NULL: (call.rows,), UNCONDITIONAL: (call.rows,)}
        for number, process in enumerate(plan.processes):
            self._condition(number)
            self._process(process)
        return self._found

    def _condition(self, number: int) -> None:
        """The graphs of the conditioners that run right before a process."""
        call = self._call
        for conditioner in self._plan.conditioners_before(number):
            for each in conditioner.inputs:
                self._slots |= each.shapes(call, self._slots)
            windows = conditioner.find(WindowsInput)
            joined = None if windows is None else windows.states
            for stage in conditioner.stages:
                self._stage(stage, self._batch(self._plan.processes[number]) if number else None)
                if joined in stage.outputs.values():
                    assert joined is not None
                    rows, tokens, *rest = self._slots[joined]
                    self._slots[joined], joined = (rows, tokens * call.windows, *rest), None

    def _process(self, process: Process) -> None:
        """The graphs of its segments and of its tail."""
        call = self._call
        own = replace(call, size=process.canvas.of_call(call.size))
        for each in process.inputs():
            self._slots |= each.shapes(own, self._slots)
        state, batch = process.state_shapes(own), self._batch(process)
        for segment in process.segments:
            graph = self._graphs[segment.graph]
            context = expand_wildcards(segment.context, (tensor.name for tensor in graph.inputs))
            shapes = {name: (batch, *self._slots[slot][1:]) for name, slot in context.items()}
            shapes |= {name: (batch, *shape[1:]) for name, shape in state.items()}
            self._read(segment.graph, shapes)
            self._variants(segment, shapes)
        if process.writes is not None:
            self._slots[process.writes] = next(iter(state.values()))
        self._tail(process, own)

    def _tail(self, process: Process, call: CallShape) -> None:
        """What the graphs behind the last step read: the first the state, and each other what those before it made."""
        begin, context = process.tail_shapes(call), process.tail_context()
        made: dict[str, Shape] = {}
        for graph in process.tail_graphs():
            shapes = begin.get(graph) or made
            # A row for each picture, whatever sides a slot has.
            shapes |= {name: (call.count, *self._slots[slot][1:]) for name, slot in context.get(graph, {}).items()}
            values = self._read(graph, {tensor.name: shapes[tensor.name] for tensor in self._graphs[graph].inputs})
            made |= {tensor.name: _shape_of(tensor, values) for tensor in self._graphs[graph].outputs}

    def _variants(self, segment: Segment, shapes: dict[str, Shape]) -> None:
        """The graphs of presets: what some give, others take, of the same size."""
        presets = self._plan.presets.values()
        variants = dict.fromkeys(v for preset in presets for v in preset.variants(segment.graph))
        kept: dict[str, Shape] = {}
        for variant in sorted(variants, key=lambda variant: bool(variant.features_in)):
            graph = self._graphs[variant.name]
            values = self._read(variant.name, {t.name: (shapes | kept)[t.name] for t in graph.inputs})
            kept |= {tensor.name: _shape_of(tensor, values) for tensor in graph.outputs}

    def _batch(self, process: Process) -> int:
        """Rows of a call of a process's graphs: those of its own guidance where the call's is another's."""
        sides = self._call.rows
        if not self._plan.is_level(process):
            sides = min(sides, process.guidance.rows(process.guidance.scale))
        return self._call.count * sides

    def _stage(self, stage: GraphCall, batch: int | None = None) -> None:
        """One call of the graph, or of each that a choice stands for; of `batch` rows where it reads every picture."""
        for name in matches(stage.graph, set(self._graphs)).values():
            graph = self._graphs[name]
            inputs = expand_wildcards(stage.inputs, (tensor.name for tensor in graph.inputs))
            shapes = {tensor: self._slots[slot] for tensor, slot in inputs.items()}
            per_picture = not self._picture_slots.isdisjoint(inputs.values())
            if not per_picture and any(shape[0] > 1 for shape in shapes.values()):
                shapes = {tensor: (self._call.rows, *shape[1:]) for tensor, shape in shapes.items()}
            if batch is not None:
                shapes = {tensor: (batch, *shape[1:]) for tensor, shape in shapes.items()}
            values = self._read(name, shapes)
            made = expand_wildcards(stage.outputs, (tensor.name for tensor in graph.outputs))
            outputs = {tensor.name: tensor for tensor in graph.outputs}
            self._slots |= {slot: _shape_of(outputs[tensor], values) for tensor, slot in made.items()}

    def _read(self, name: str, shapes: dict[str, Shape]) -> Sizes:
        """The free sizes of one call."""
        values = self._note(name, shapes)
        if self._rank is not None and (variant := self._takes_lora.get(name)) is not None:
            self._note(variant, shapes | {DOWN: (1, self._rank), UP: (self._rank, 1)})
        painted = None if self._paint is None else self._paint.of(name)
        if self._paint is not None and painted is not None:
            key = next(shape for tensor, shape in shapes.items() if tensor.startswith("key."))
            read = painted.inputs()
            own = {
                tensor: shape
                for tensor, shape in self._paint.shapes(self._call, {"key": key}).items()
                if tensor in read
            }
            self._note(painted.variant, shapes | {tensor: (key[0], *shape[1:]) for tensor, shape in own.items()})
        return values

    def _note(self, name: str, shapes: dict[str, Shape]) -> Sizes:
        values = _free(self._graphs[name], shapes)
        known = self._found.setdefault(name, {})
        for size, value in values.items():
            known.setdefault(size, []).append(value)
        return values


def _free(graph: Graph, shapes: dict[str, Shape]) -> Sizes:
    for tensor in graph.inputs:
        if len(tensor.shape) != len(shapes[tensor.name]):
            wanted = f"expected {tensor.name} {list(shapes[tensor.name])}, as the plan's graphs give it"
            raise InputError(f"manifest: {graph.file}: {wanted}, got {list(tensor.shape)}; export the bundle again")
    return {
        name: size
        for tensor in graph.inputs
        for name, size in zip(tensor.shape, shapes[tensor.name], strict=True)
        if isinstance(name, str)
    }


def _shape_of(tensor: Tensor, values: Sizes) -> Shape:
    # Of a multiple such as 4*height an output knows the whole number, too.
    parts = ((name.partition("*"), value) for name, value in values.items())
    known = values | {name: value // int(times) for (times, star, name), value in parts if star and times.isdecimal()}
    return tuple(size if isinstance(size, int) else _SizeReader(size, known).size() for size in tensor.shape)


class _SizeReader:
    """Reads a size such as `4*height` or `(height - 1)//2 + 1`, as exporters write them, with the values of its names.

    Raises InputError for what is no sum, product or quotient of whole numbers and known names, and for a size below 0
    or beyond LARGEST_SIZE.
    """

    def __init__(self, text: str, values: Sizes):
        self._text, self._values = text, values
        self._tokens = re.findall(TOKEN, text)
        if "".join(self._tokens) != "".join(text.split()) or len(self._tokens) > MOST_TOKENS:
            raise self._refused()

    def size(self) -> int:
        """The value of the whole text."""
        value = self._sum()
        if self._tokens:
            raise self._refused()
        return value

    def _sum(self) -> int:
        value = self._product()
        while self._tokens[:1] in (["+"], ["-"]):
            sign = self._tokens.pop(0)
            other = self._product()
            value = self._within(value + other if sign == "+" else value - other)
        return value

    def _product(self) -> int:
        value = self._term()
        while self._tokens[:1] in (["*"], ["//"]):
            sign = self._tokens.pop(0)
            other = self._term()
            if sign == "//" and other == 0:
                raise self._refused()
            value = self._within(value * other if sign == "*" else value // other)
        return value

    def _term(self) -> int:
        token = self._tokens.pop(0) if self._tokens else ""
        if token == "(":
            value = self._sum()
            if self._tokens[:1] != [")"]:
                raise self._refused()
            self._tokens.pop(0)
            return value
        if token.isdecimal() and len(token) <= len(str(LARGEST_SIZE)):
            return self._within(int(token))
        if token in self._values:
            return self._values[token]
        raise self._refused()

    def _within(self, value: int) -> int:
        if abs(value) > LARGEST_SIZE:
            raise self._refused()
        return value

    def _refused(self) -> InputError:
        known = ", ".join(self._values) or "none"
        return InputError(
            f"manifest: expected a size of whole numbers, of the names {known}, and of + - * // and brackets, got "
            f"{short(self._text)}; export the bundle again"
        )
