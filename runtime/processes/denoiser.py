"""The guided prediction that every process asks for: picks the segment, batches the guidance, reuses features of
earlier calls."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..bundle.calls import expand_wildcards
from ..bundle.plan import Process
from ..bundle.preset import CROSS, DenoiserVariant, Preset, is_feature_tensor
from ..inputs.option import NamedTensors
from ..inputs.paint import CONTEXT, GAIN_DEVIATION, GAIN_MAX
from ..paint.gains import Painted
from ..request import Request
from ..sessions.session import Outputs, Session
from .picture_rows import PictureRows, side_rows
from .run import LatestCall
from .segment import segment_at
from .tokens import TokensProcess


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How one call is made: rows of the guidance, features to output and to read, downsampling of keys and values."""

    rows: int
    features_out: tuple[str, ...] = ()
    features_in: tuple[str, ...] = ()
    kv_downsample: int = 1

    def variant(self, graph: str) -> DenoiserVariant:
        """The graph that stands for a segment's `graph` in this call."""
        return DenoiserVariant(graph, self.features_out, self.features_in, self.kv_downsample)


class FeatureCache:
    """The state of one run: `next` says how a call is made, `keep` is told what came out.

    `rows` are the run's rows of guidance; `last_segment` is the number of the plan's last segment, before which the
    cross-attention is never frozen.
    """

    def __init__(self, preset: Preset, rows: int, last_segment: int):
        self._preset, self._rows, self._last_segment = preset, rows, last_segment
        self._kept: dict[str, np.ndarray] = {}
        self._full: tuple[int, int] | None = None
        """Segment and rows of the last call that computed everything; None before the first."""
        self._shallow = 0
        """Calls since then."""
        self._frozen = False

    def next(self, segment: int, timestep: float) -> StepPlan:
        """How the next call is made, by a segment of this number at a timestep."""
        preset, feature = self._preset, self._preset.feature
        freezes = preset.tgate_from is not None and not self._frozen
        freezes = freezes and segment == self._last_segment and timestep <= (preset.tgate_from or 0)
        rows = 1 if self._frozen or not self._guided(timestep) else self._rows
        frozen = (CROSS,) if self._frozen else ()
        if feature is not None and not freezes and self._serves(segment, rows):
            self._shallow += 1
            return StepPlan(rows, (), (feature, *frozen), preset.kv_downsample)
        self._full, self._shallow = (segment, rows), 0
        outputs = (() if feature is None else (feature,)) + ((CROSS,) if freezes else ())
        self._frozen = self._frozen or freezes
        return StepPlan(rows, outputs, frozen, preset.kv_downsample)

    def keep(self, step: StepPlan, outputs: dict[str, np.ndarray]) -> None:
        """Keeps what a call gave; of the cross-attention the mean of the guidance's rows."""
        for name, array in outputs.items():
            if is_feature_tensor(name, CROSS):
                self._kept[name] = array.reshape(step.rows, -1, *array.shape[1:]).mean(axis=0)
            elif any(is_feature_tensor(name, feature) for feature in step.features_out):
                self._kept[name] = array

    def taken(self, step: StepPlan, rows: int) -> dict[str, np.ndarray]:
        """The kept tensors that a call of so many rows takes: of both sides' rows the conditional come last."""
        return {
            name: array[-rows:]
            for name, array in self._kept.items()
            if any(is_feature_tensor(name, f) for f in step.features_in)
        }

    def _serves(self, segment: int, rows: int) -> bool:
        """Whether the last full call can stand in: not past its time, of the same segment, with the rows needed."""
        if self._full is None or self._shallow + 1 >= self._preset.cache_interval:
            return False
        return self._full[0] == segment and self._full[1] >= rows

    def _guided(self, timestep: float) -> bool:
        guided = self._preset.guidance_interval
        return guided is None or guided[0] >= timestep >= guided[1]


@dataclass(frozen=True, slots=True)
class _BoundGraph:
    """A graph with a segment's context, and the names of the inputs that are left."""

    call: Callable[..., Outputs]
    free: frozenset[str]


class Denoiser:
    """One run's prediction for a process, `predict(inputs, timestep)`.

    `slots` hold one row for each side of the guidance, or one for both, or one for each prompt of each side; they
    are repeated for `request.count` pictures once, before the loop, for all segments. Those of `written` are an
    earlier process's, with a row for each picture, and those of `joined` have a row for each side and picture. A
    delayed segment takes over once the calls, counted from 0, have passed the request's `delay_until_call`. Its
    preset says which calls are made with less. With `split_cfg_batch` the graph is called for one side of the
    guidance after the other, with half of what a call computes in memory at a time. Of an `alone` one no segment's
    graph is held while another's serves.
    """

    def __init__(
        self,
        process: Process,
        session: Callable[[str], Session],
        slots: NamedTensors,
        request: Request,
        scale: float,
        written: frozenset[str] = frozenset(),
        joined: frozenset[str] = frozenset(),
        preset: Preset | None = None,
        alone: bool = False,
    ):
        self._process, self._session = process, session
        self._rows = PictureRows(slots, request, written, joined)
        self._scale, self._count, self._split = scale, request.count, request.split_cfg_batch
        self._serving, self._alone = request.serving, alone
        self._lora = {request.serving(graph): arrays for graph, arrays in request.inputs.lora.items()}
        self._painted = _painted_here(request, process)
        self._sampler = request.sampler
        self._delay_until_call = request.inputs.delay_until_call
        rows = process.guidance.rows(scale)
        self._reuse = FeatureCache(preset or Preset(), rows, len(process.segments) - 1)
        self._bounds: dict[tuple[int, str, int, int | None], _BoundGraph] = {}
        self.served: list[int] = []
        """The number of the plan's segment behind every call so far."""
        self.graphs: list[str] = []
        """The graph behind every call so far."""
        self._latest: LatestCall | None = None

    def __call__(self, given: NamedTensors, timestep: float) -> NamedTensors:
        """What the process's graph predicts of `given`, one row each picture, guided: one call of the graph, whatever
        the guidance, or one for each of its sides."""
        segments = self._process.segments
        number = segment_at(segments, timestep, delayed=len(self.served) <= self._delay_until_call)
        step = self._reuse.next(number, timestep)
        graph = self._serving(step.variant(segments[number].graph).name)
        sides = range(step.rows) if self._split else (None,)
        outputs = _joined([self._outputs(number, graph, step, side, given) for side in sides])
        self._reuse.keep(step, outputs)
        self.served.append(number)
        self.graphs.append(graph)
        guidance = self._process.guidance
        return {name: guidance.combined(outputs[name], step.rows, self._scale, name) for name in self._process.outputs}

    def noise_of(self, state: np.ndarray, timestep: float) -> np.ndarray:
        """The guided prediction of a float32 state [count, ...] at a timestep, as samplers ask for it: all that the
        process's graph gives, along the channels."""
        process = self._process
        assert not isinstance(process, TokensProcess), "noise of tokens"
        given = {process.state: state, "timestep": np.full(len(state), timestep, np.float32)}
        if process.guidance.rule == "embedded":
            given["guidance"] = np.full(len(state), self._scale, np.float32)
        if self._painted is not None:
            assert self._sampler is not None, "painted words in a walk without noise levels"
            sigma = self._sampler.sigma_at(timestep)
            given[GAIN_MAX], given[GAIN_DEVIATION] = self._painted.gains.at(sigma, len(state))
        made = self(given, timestep)
        (first, *others) = (made[name] for name in process.outputs)
        predicted = np.concatenate([first, *others], axis=1) if others else first
        self._latest = state, timestep, predicted
        return predicted

    def latest(self) -> LatestCall:
        """The latest call of `noise_of`."""
        assert self._latest is not None, "a step without a call of the denoiser"
        return self._latest

    def release(self) -> None:
        """Lets go of the sessions and what was bound to them."""
        self._bounds.clear()
        self._rows.clear()

    def _outputs(self, number: int, graph: str, step: StepPlan, side: int | None, given: NamedTensors) -> Outputs:
        """What the graph gives for one side of the guidance, or for all (None)."""
        count = self._count
        bound = self._bound(number, graph, step.rows, side)
        taken = self._reuse.taken(step, step.rows * count)
        kept = {name: side_rows(taken[name], side, count) for name in bound.free & taken.keys()}
        both = side is None and step.rows == 2
        rows = {name: np.concatenate([array, array]) if both else array for name, array in given.items()}
        return bound.call(**rows, **kept)

    def _bound(self, number: int, graph: str, sides: int, side: int | None) -> _BoundGraph:
        """A device takes the context into its memory once per run, when a segment's graph first serves."""
        key = number, graph, sides, side
        if key not in self._bounds:
            if self._alone:
                own, segments = self._process.segments[number].graph, self._process.segments
                self._bounds = {other: kept for other, kept in self._bounds.items() if segments[other[0]].graph == own}
            self._bounds[key] = self._bind(*key)
        return self._bounds[key]

    def _bind(self, number: int, graph: str, sides: int, side: int | None) -> _BoundGraph:
        session = self._session(graph)
        names = {tensor.name for tensor in session.inputs}
        context = self._process.segments[number].context | ({} if self._painted is None else CONTEXT)
        wires = expand_wildcards(context, (tensor.name for tensor in session.inputs))
        # What a variant takes from an earlier call has no use for some of the context.
        rows = {name: self._rows(slot, sides, side) for name, slot in wires.items() if name in names}
        # A LoRA's factors are the run's: no row of them is a picture's.
        rows |= self._lora.get(graph, {})
        return _BoundGraph(session.bind(**rows), frozenset(names - rows.keys()))


def _painted_here(request: Request, process: Process) -> Painted | None:
    """What is painted into this process's graphs."""
    painted = request.inputs.paint
    graphs = {segment.graph for segment in process.segments}
    return painted if painted is not None and painted.graphs & graphs else None


def _joined(parts: list[Outputs]) -> Outputs:
    """The rows of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
