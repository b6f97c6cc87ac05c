"""The process that walks tokens: ids drawn or revealed from what a network says of them, then one tail or more."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from ..bundle.calls import PlannedCall
from ..bundle.records import Few, Side
from ..errors import InputError
from ..inputs.option import CallShape, Input, NamedTensors, Shape
from ..output import Decoded, Step
from ..sessions.session import Session
from ..token_samplers.noise import TokenNoise
from ..token_samplers.registry import TokenSamplerRecord
from ..token_samplers.sampler import TokenRun
from .canvas import Canvas
from .guidance import Guidance
from .run import ProcessRun
from .segment import Segment, segment_problems
from .tails import PictureTail, SoundTail, Tail, tail_graphs, tokens_shape


@dataclass(frozen=True, slots=True)
class TokensProcess:
    """int64 tokens [count, length]. `grid` is their usual (height, width), (1, length) where they are no picture.

    Its graphs also take `tokens` int64 [B, length], or with `any_grid` [B, h, w], and where it `takes_timestep`
    `timestep` int64 [B]; they return `outputs`, float32, like the tokens with a last axis of classes. A token of a
    picture has `factor` pixels a side; with `any_grid` every side of a picture is a multiple of `size_multiple`.
    `picture_size` is (height, width) in pixels of a picture that is but a part of the state.
    """

    kind: Literal["tokens"] = field(default="tokens", init=False)
    segments: tuple[Segment, ...]
    sampler: TokenSamplerRecord
    grid: tuple[Side, Side]
    tails: tuple[Tail, ...]
    guidance: Guidance
    factor: Few = 1
    any_grid: bool = False
    size_multiple: Side = 1
    takes_timestep: bool = True
    outputs: tuple[str, ...] = ("logits",)
    writes: str | None = None
    picture_size: tuple[Side, Side] | None = None

    @property
    def stage(self) -> None:
        """None: what it takes from the caller is its sampler's."""

    @property
    def length(self) -> int:
        """The usual number of tokens of a state."""
        return self.grid[0] * self.grid[1]

    @property
    def gives(self) -> tuple[str, ...]:
        """What becomes of its last state; without tails the tokens themselves."""
        return tuple(tail.kind for tail in self.tails) or ("tokens",)

    @property
    def steps(self) -> int:
        """The usual number."""
        return self.sampler.steps

    @property
    def canvas(self) -> Canvas:
        """The sizes that it draws."""
        pictures = any(isinstance(tail, PictureTail) for tail in self.tails)
        multiple = self.size_multiple if self.any_grid else self.factor
        if self.picture_size is not None:
            return Canvas(self.picture_size, self.factor, multiple, fixed=True, grid=self.grid)
        size = self.grid[0] * self.factor, self.grid[1] * self.factor
        return Canvas(size, self.factor, multiple, fixed=not self.any_grid, pictures=pictures)

    def stage_sampler(self, values: Mapping[str, Any]) -> None:
        """None: its sampler is a record of the plan, and keeps nothing of a run."""

    def inputs(self) -> Iterator[Input]:
        """What it takes from the caller beside what every plan does: the options of its sampler."""
        yield self.sampler

    def optional_graphs(self, by_preview: bool = False) -> tuple[str, ...]:
        """None: every run calls all graphs."""
        return ()

    def tail_graphs(self) -> tuple[str, ...]:
        """The graphs behind the last step."""
        return tuple(graph for tail in self.tails for graph in tail_graphs(tail))

    def tail_lines(self) -> list[str]:
        """What is done with the last tokens, in words."""
        return [tail.describe() for tail in self.tails] or ["the tokens themselves"]

    def calls(self) -> Iterator[PlannedCall]:
        """What it asks of each graph."""
        state: tuple[int | str, ...] = ("batch", "height", "width") if self.any_grid else ("batch", self.length)
        for segment in self.segments:
            fed, shapes = segment.context | {"tokens": "tokens"}, {"tokens": state}
            if self.takes_timestep:
                fed, shapes = fed | {"timestep": "timestep"}, shapes | {"timestep": ("batch",)}
            yield PlannedCall(segment.graph, fed, {name: name for name in self.outputs}, shapes)
        for tail in self.tails:
            yield from tail.calls()

    def state_shapes(self, call: CallShape) -> dict[str, Shape]:
        """The shapes of what changes from step to step, one row each picture."""
        state = self.canvas.cells(call.size) if self.any_grid else (self.length,)
        return {"tokens": (call.count, *state)} | ({"timestep": (call.count,)} if self.takes_timestep else {})

    def tail_shapes(self, call: CallShape) -> dict[str, dict[str, Shape]]:
        """The shapes of what the first graph of each tail reads."""
        grid = self.canvas.cells(call.size) if self.any_grid else None
        found = {}
        for tail in self.tails:
            for graph in tail_graphs(tail)[:1]:
                found[graph] = {"tokens": tokens_shape(tail, (call.count, self.length), grid)}
        return found

    def tail_context(self) -> dict[str, dict[str, str]]:
        """Nothing: tails read the tokens, and what one another made."""
        return {}

    def problems(self) -> list[str]:
        """What does not fit together inside it."""
        found = segment_problems(self.segments, self.sampler.steps - 1) + self.sampler.problems()
        if lost := [name for name in self.sampler.OUTPUTS if name not in self.outputs]:
            got = ", ".join(self.outputs) or "none"
            found.append(f"plan: expected the outputs {', '.join(lost)}, by which tokens are drawn, got {got}")
        if self.any_grid and self.size_multiple % self.factor:
            found.append(f"plan: expected sizes in multiples of the factor {self.factor}, got {self.size_multiple}")
        if self.any_grid and self.picture_size is not None:
            found.append("plan: expected a picture of one size, or tokens of any grid, got both")
        if self.any_grid and any(side * self.factor % self.size_multiple for side in self.grid):
            found.append(
                f"plan: expected a grid whose size is a multiple of {self.size_multiple}, got {list(self.grid)}"
            )
        for tail in self.tails:
            if tail.span is not None and tail.span.first + tail.span.count > self.length:
                got = f"{tail.span.count} from {tail.span.first} on"
                found.append(f"plan: expected a {tail.kind} of the {self.length} tokens, got {got}")
            found += tail.problems() if isinstance(tail, SoundTail) else ()
        return found

    def walk(self, run: ProcessRun) -> Generator[Step, np.ndarray | None, None]:
        """A step of the sampler after the other; tokens that are sent in take the place of the state."""
        noise = run.noise
        assert not isinstance(noise, np.ndarray)
        token_run = TokenRun(
            partial(self._predict, run),
            TokenNoise(run.seed, run.count, noise),
            run.count,
            run.grid,
            run.values,
            run.slots,
        )
        count, walk, sent = self.sampler.step_count(token_run), self.sampler.walk(token_run), None
        for index in range(count):
            with run.timings("denoise"):
                step = walk.send(sent)
            preview = partial(self._preview, run, step.likely)
            sent = yield Step(index, count, step.timestep, None, preview, step.tokens)

    def written(self, state: np.ndarray, session: Callable[[str], Session]) -> np.ndarray:
        """What later processes read of the last state: the state."""
        return state

    def decode(self, state: np.ndarray, run: ProcessRun) -> Decoded:
        """What the tails make of the last tokens."""
        made, grid = Decoded(), run.grid if self.any_grid else None
        for tail in self.tails:
            tokens = state if tail.span is None else tail.span.of(state)
            shape = tokens_shape(tail, state.shape, grid)
            made += tail.decode(tokens.reshape(shape), run.session, run.file)
        return made

    def _predict(self, run: ProcessRun, tokens: np.ndarray, timestep: np.ndarray | int) -> NamedTensors:
        state = tokens.reshape(len(tokens), *run.grid) if self.any_grid else tokens
        given: NamedTensors = {"tokens": state}
        if self.takes_timestep:
            given["timestep"] = np.broadcast_to(np.asarray(timestep, np.int64), len(tokens))
        made = run.predict(given, float(np.max(timestep)))
        if any(np.isnan(array).any() for array in made.values()):
            raise InputError(
                "tokens: expected numbers from the network, got NaN; lower guidance, or give smaller values in the "
                "arrays of this run"
            )
        return {name: array.reshape(*tokens.shape, -1) if self.any_grid else array for name, array in made.items()}

    def _preview(self, run: ProcessRun, likely: Any) -> list[Any]:
        """What the network expects, decoded: pictures, and where there are none, texts or sounds."""
        run.before_preview()
        made = self.decode(likely(), run)
        return made.images or made.texts or made.sounds
