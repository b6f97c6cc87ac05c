"""Runs the plan's conditioners: what the caller gave in, named slots out, once per picture."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import numpy as np

from .bundle.calls import GraphCall, expand_wildcards
from .bundle.cfg_batch import expand_cfg
from .bundle.plan import IS_NULL, UNCONDITIONAL, Conditioner
from .bundle.reader import Bundle
from .encoded_texts import EncodedTexts, encoded_texts
from .inputs.option import NamedTensors
from .inputs.sound import MixInput, mixed
from .inputs.text.items import ItemsInput
from .inputs.text.learned import LearnedInput
from .inputs.text.marker import MarkerInput
from .inputs.text.windows import WindowsInput
from .inputs.text.word import WordInput
from .items.sequence import context_slots
from .media.prompts.windows import weighted_states
from .media.tokenizer import Tokenizer
from .processes.picture_rows import PictureRows
from .request import Request
from .sessions.session import Session

LOOKS_INTO_PROMPTS = (WordInput, MarkerInput, LearnedInput, WindowsInput, ItemsInput)


class Conditions:
    """Fills the slots for a request, one row for each side of the guidance or one for both."""

    def __init__(self, bundle: Bundle, session: Callable[[str], Session]):
        self._session, self._picture_slots = session, bundle.manifest.plan.picture_slots()
        texts, self._paints = _Tokenizers(bundle), bundle.manifest.plan.paint is not None
        self._conditioners = [
            (conditioner, texts(conditioner)) for conditioner in bundle.manifest.plan.conditioners_before(0)
        ]
        self._plan = bundle.manifest.plan

    @property
    def prompt_tokenizers(self) -> tuple[Tokenizer, ...]:
        """Those of the prompt that the plan's inputs look into: first where a placeholder word, a marker or weights may
        stand, then all that read words which may be painted."""
        standing = [t for c, t in self._conditioners if any(c.find(kind) for kind in LOOKS_INTO_PROMPTS)]
        read = [t for _, t in self._conditioners] if self._paints else []
        return tuple({id(each): each for each in (*standing, *read) if each is not None}.values())

    def __call__(
        self, request: Request, other: np.ndarray | None = None, until: str | None = None
    ) -> tuple[NamedTensors, tuple[str, ...]]:
        """The slots, and a warning for every prompt that was cut.

        `other` is a context [B, tokens, D] to mix in; no stage is run behind the one that fills the slot `until`.
        """
        slots, notes = dict(request.inputs.slots), list(request.notes)
        slots[IS_NULL] = np.array([not request.values["negative"], False][-request.rows :])
        slots[UNCONDITIONAL] = np.array([True, False][-request.rows :])
        for conditioner, tokenizer in self._conditioners:
            if (items := conditioner.find(ItemsInput)) is not None:
                slots |= self._mixed(conditioner, items, request)
                continue
            if not _is_given(conditioner, slots, request):
                continue
            if conditioner.find(WordInput) is not None:
                slots["words"] = slots["words"][:, : request.values["words"]]
            if (mix := conditioner.find(MixInput)) is not None and other is not None:
                assert request.values["mix"] is not None, "a context to mix without its share"
                slots[mix.slot] = mixed(slots[mix.slot], other, request.values["mix"])
            stages = conditioner.stages
            if tokenizer is not None and request.prompt is not None:
                texts = encoded_texts(conditioner, tokenizer, request)
                notes += texts.notes
                slots |= texts.slots
                if texts.windows:
                    made, stages = self._windows(conditioner, texts, slots, request)
                    slots |= made
                    if until in slots:
                        break
            for stage in stages:
                slots |= self._run(stage, slots, request)
                if until in slots:
                    return slots, tuple(dict.fromkeys(notes))
        return slots, tuple(dict.fromkeys(notes))

    def joined(
        self,
        waiting: Iterable[Conditioner],
        slots: NamedTensors,
        written: frozenset[str],
        sides: int,
        request: Request,
    ) -> NamedTensors:
        """The slots of conditioners that waited for what is `written`: a row for each of `sides` and each picture."""
        made: NamedTensors = {}
        for conditioner in waiting:
            for stage in conditioner.stages:
                session = self._session(stage.graph)
                rows = PictureRows(slots | made, request, written, frozenset(made))
                read = expand_wildcards(stage.inputs, (tensor.name for tensor in session.inputs))
                outputs = session(**{name: rows(slot, sides) for name, slot in read.items()})
                made |= {slot: outputs[name] for name, slot in expand_wildcards(stage.outputs, outputs).items()}
        return made

    def _windows(
        self, conditioner: Conditioner, texts: EncodedTexts, slots: NamedTensors, request: Request
    ) -> tuple[NamedTensors, tuple[GraphCall, ...]]:
        """The text's states, window by window, weighted and put end to end; and the stages behind them."""
        reads = conditioner.find(WindowsInput)
        assert reads is not None, "windows of a conditioner that has one"
        number = next(n for n, stage in enumerate(conditioner.stages, 1) if reads.states in stage.outputs.values())
        states = []
        for window, weights in zip(texts.windows, texts.weights, strict=True):
            own = slots | window
            for stage in conditioner.stages[:number]:
                own |= self._run(stage, own, request)
            states.append(weighted_states(own[reads.states], weights))
        return {reads.states: np.concatenate(states, axis=1)}, conditioner.stages[number:]

    def _mixed(self, conditioner: Conditioner, items: ItemsInput, request: Request) -> NamedTensors:
        """The context of texts and pictures, piece by piece through the stages."""

        def read(slot: str, array: np.ndarray) -> np.ndarray:
            stage = next(each for each in conditioner.stages if slot in each.inputs.values())
            (made,) = self._run(stage, {slot: array}, request).values()
            return made

        encoding, weighting = items.encoding_of(request.values), items.weighting_of(request.values)
        return context_slots(request.inputs.sequences, encoding, weighting, read)

    def unused_graphs(self, request: Request) -> set[str]:
        """Names of the graphs of starts that the caller did not give."""
        slots = request.inputs.slots
        optional = [conditioner for conditioner, _ in self._conditioners if conditioner.optional]
        lacking = [conditioner for conditioner in optional if not _is_given(conditioner, slots, request)]
        unused = {stage.graph for conditioner in lacking for stage in conditioner.stages}
        served = [conditioner for conditioner, _ in self._conditioners if conditioner not in lacking]
        unused -= {stage.graph for conditioner in served for stage in conditioner.stages}
        filled = set(slots) | {slot for each in served for stage in each.stages for slot in stage.outputs.values()}
        for process in self._plan.left_out(filled):
            unused |= self._plan.process_graphs(self._plan.processes[process])
        return unused

    def _run(self, stage: GraphCall, slots: NamedTensors, request: Request) -> NamedTensors:
        graph = stage.graph.format(**request.choices)
        session, lora = self._session(request.serving(graph)), request.inputs.lora.get(graph, {})
        read = {
            name: slots[slot] for name, slot in expand_wildcards(stage.inputs, (t.name for t in session.inputs)).items()
        }
        per_picture = not self._picture_slots.isdisjoint(stage.inputs.values())
        if not per_picture and any(len(array) > 1 for array in read.values()):
            read = {name: expand_cfg(array, request.rows) for name, array in read.items()}
        outputs = session(**read, **lora)
        return {slot: outputs[name] for name, slot in expand_wildcards(stage.outputs, outputs).items()}


def _is_given(conditioner: Conditioner, slots: NamedTensors, request: Request) -> bool:
    """Whether there is what a conditioner reads: what may be left out may have been, and all that is made of it."""
    if conditioner.text is not None:
        return request.prompt is not None
    made = set[str]()
    for stage in conditioner.stages:
        read = set(stage.inputs.values()) - made
        if not all(any(fnmatchcase(slot, each) for slot in slots) for each in read):
            return False
        made |= set(stage.outputs.values())
    return True


class _Tokenizers:
    """The tokenizers of a bundle's conditioners: those that read alike share one."""

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        self._made: dict[tuple[str, int, int, bool], Tokenizer] = {}

    def __call__(self, conditioner: Conditioner) -> Tokenizer | None:
        """That of the prompt, or of the texts among items, which have no window; None for a conditioner of neither."""
        text, items = conditioner.text, conditioner.find(ItemsInput)
        if text is not None:
            key = text.tokenizer, text.window, text.pad_id, text.cleans
        elif items is not None:
            key = items.tokenizer, items.positions, items.end, False
        else:
            return None
        if key not in self._made:
            self._made[key] = Tokenizer(self._bundle.checked(key[0]), *key[1:])
        return self._made[key]
