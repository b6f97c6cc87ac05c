"""The process that walks vectors: an embedding out of noise, which later processes read."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..bundle.calls import PlannedCall
from ..bundle.records import Few
from ..inputs.option import CallShape, Shape
from ..inputs.stages import Stage
from ..output import Decoded, Step
from ..samplers.schedule import Schedule
from ..sessions.session import Session
from .canvas import Canvas
from .guidance import Guidance
from .latents import SampledProcess, SamplerChoice
from .run import ProcessRun
from .segment import Segment, segment_problems
from .start_noise import draws_of


@dataclass(frozen=True, slots=True)
class VectorsProcess(SampledProcess):
    """float32 vectors [count, width], such as a prior's embedding of the picture to come.

    Its graphs also take `vectors` and `timestep` float32 [B], and return `predicted` like the vectors. The graph `tail`
    makes of the last `vectors` what is `written`, as long.
    """

    kind: Literal["vectors"] = field(default="vectors", init=False)
    segments: tuple[Segment, ...]
    sampler: SamplerChoice
    width: Few
    writes: str | None
    schedule: Schedule = field(default_factory=Schedule)
    guidance: Guidance = field(default_factory=Guidance)
    stage: Stage | None = None
    tail: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """What its graphs predict."""
        return ("predicted",)

    @property
    def state(self) -> str:
        """What its graphs call the state."""
        return "vectors"

    @property
    def gives(self) -> tuple[str, ...]:
        """Nothing that a caller gets."""
        return ()

    @property
    def canvas(self) -> Canvas:
        """No picture: a vector is one cell."""
        return Canvas((1, 1), 1, 1, fixed=True, pictures=False)

    def state_shape(self, grid: tuple[int, int]) -> Shape:
        """The shape of one vector."""
        return (self.width,)

    def tail_graphs(self) -> tuple[str, ...]:
        """The graph behind the last step."""
        return () if self.tail is None else (self.tail,)

    def optional_graphs(self, by_preview: bool = False) -> tuple[str, ...]:
        """None."""
        return ()

    def tail_lines(self) -> list[str]:
        """What is done with the last vectors, in words."""
        return [] if self.tail is None else [f"vectors -> {self.tail} -> {self.writes}"]

    def calls(self) -> Iterator[PlannedCall]:
        """What it asks of each graph."""
        vectors: tuple[int | str, ...] = ("batch", self.width)
        for segment in self.segments:
            fed = segment.context | {"vectors": "vectors", "timestep": "timestep"}
            shapes: dict[str, tuple[int | str, ...]] = {
                "vectors": vectors,
                "predicted": vectors,
                "timestep": ("batch",),
            }
            yield PlannedCall(segment.graph, fed, {"predicted": "predicted"}, shapes)
        if self.tail is not None:
            shapes = {"vectors": vectors, "written": vectors}
            yield PlannedCall(self.tail, {"vectors": "vectors"}, {"written": "written"}, shapes)

    def state_shapes(self, call: CallShape) -> dict[str, Shape]:
        """The shapes of what changes from step to step, one row each picture."""
        return {"vectors": (call.count, self.width), "timestep": (call.count,)}

    def tail_shapes(self, call: CallShape) -> dict[str, dict[str, Shape]]:
        """The shapes of what the graph behind the last step reads."""
        return {graph: {"vectors": (call.count, self.width)} for graph in self.tail_graphs()}

    def tail_context(self) -> dict[str, dict[str, str]]:
        """Nothing: the graph behind the last step reads the vectors alone."""
        return {}

    def problems(self) -> list[str]:
        """What does not fit together inside it."""
        found = segment_problems(self.segments, self.schedule.train_steps - 1)
        if self.writes is None:
            found.append("plan: expected vectors to be written to a slot, for a later process, got none")
        return [*found, *self.sampler_problems()]

    def walk(self, run: ProcessRun) -> Generator[Step, Any, None]:
        """A step of the sampler after the other."""
        sampler = run.sampler
        assert sampler is not None, "vectors without a sampler"
        noise, draw = draws_of(run, self.state_shape(run.grid))
        walk = sampler.run(noise * np.float32(sampler.noise_scale), run.noise_of, draw)
        for index, timestep in enumerate(sampler.timesteps):
            with run.timings("denoise"):
                vectors = next(walk)
            yield Step(index, len(sampler.timesteps), timestep, vectors, list)

    def written(self, state: np.ndarray, session: Callable[[str], Session]) -> np.ndarray:
        """What later processes read of the last state."""
        return state if self.tail is None else session(self.tail)(vectors=state)["written"]

    def decode(self, state: np.ndarray, run: ProcessRun) -> Decoded:
        """Nothing: what it writes is the next process's."""
        return Decoded()
