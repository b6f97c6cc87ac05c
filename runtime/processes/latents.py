"""The process that walks latents, or pixels: noise to a state by a sampler over guided noise, then one picture decoder,
or none."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..bundle.calls import PlannedCall
from ..bundle.records import Count, Few, Side
from ..errors import InputError
from ..inputs.option import CallShape, Input, NamedTensors, Shape
from ..inputs.stages import Stage, stage_value
from ..output import Decoded, Step, to_images
from ..paint.noise import over_regions
from ..samplers.ddim import LEARNED
from ..samplers.registry import OWN_SAMPLERS, SAMPLERS, make_sampler, sampler_kind
from ..samplers.sampler import CLEAN, Begin, Level, Sampler
from ..samplers.schedule import Schedule
from ..samplers.settings import SamplerSettings
from ..sessions.session import Session
from .canvas import Canvas
from .guidance import Guidance
from .run import ProcessRun
from .segment import Segment, segment_problems
from .start_noise import draws_of

START_LATENTS, DRAWN_ANEW = "start_latents", "drawn_anew"
"""The slots of a start: clean latents [count, C, h, w], and 1 where a mask has them drawn anew, [count, 1, h, w]."""


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
        if name not in (None, self.name) and self.name in OWN_SAMPLERS:
            raise InputError(f"sampler: this bundle has one of its own, {self.name}, got {name!r:.60}; leave it out")
        if name in OWN_SAMPLERS and name != self.name:
            raise InputError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {name!r}, which is another system's")
        known, merged = self._merged(name, settings)
        return make_sampler(known, schedule, self.steps if steps is None else steps, merged)

    def options(self, name: str | None, settings: SamplerSettings) -> dict[str, Any]:
        """Those of a run's options that make the same sampler, whatever the plan's is, of what `make` takes."""
        known, merged = self._merged(name, settings)
        return {"sampler": self.name if name is None else name} | merged.over(sampler_kind(known).settings).to_options()

    def _merged(self, name: str | None, settings: SamplerSettings | None) -> tuple[str, SamplerSettings]:
        """The sampler's own name, and what is set on it."""
        chosen = self.name if name is None else name
        own = self.settings.given() if chosen == self.name else {}
        known = self.aliases.get(chosen, chosen) if isinstance(chosen, str) else chosen
        return known, (settings or SamplerSettings()).over(own)


class SampledProcess:
    """What every process is that a sampler walks, whatever its state is."""

    __slots__ = ()
    sampler: SamplerChoice
    schedule: Schedule
    segments: tuple[Segment, ...]
    stage: Stage | None

    @property
    def steps(self) -> int:
        """The usual number."""
        return self.sampler.steps

    def stage_sampler(self, values: Mapping[str, Any]) -> Sampler:
        """What it samples with where it is not the call's own process. Raises InputError as SamplerChoice.make does."""
        return self.sampler.make(self.schedule, steps=stage_value(self.stage, values, "steps"))

    def inputs(self) -> Iterator[Input]:
        """What it takes from the caller beside what every plan does."""
        yield from (() if self.stage is None else (self.stage,))

    def sampler_problems(self) -> Iterator[str]:
        """One line for each reason why the sampler cannot be had."""
        try:
            self.sampler.make(self.schedule)
        except InputError as error:
            yield from (f"plan: {problem}" for problem in error.problems)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Latents to picture. The graph maps `latents` [B, channels, h, w] to `image` [B, 3, h*factor, w*factor] in -1..1.

    A `grey` one gives [B, 1, ...]. `to_uint8` tells how the original makes bytes; `size` is the default (height, width)
    in pixels, and every size must be a multiple of `size_multiple`. `context` maps what else it reads to slots, such as
    coarser levels of the latents.
    """

    graph: str
    channels: Few
    factor: Few
    size: tuple[Side, Side]
    size_multiple: Side
    to_uint8: Literal["truncate", "round"] = "round"
    grey: bool = False
    context: dict[str, str] = field(default_factory=dict)

    def pictures(self, latents: np.ndarray, run: ProcessRun) -> list[Image.Image]:
        """The pictures of latents, with the rows of its context that are theirs."""
        context = {name: run.rows(slot) for name, slot in self.context.items()}
        return to_images(run.session(self.graph)(latents=latents, **context)["image"], self.to_uint8)


@dataclass(frozen=True, slots=True)
class Pixels:
    """No decoder: the state [B, channels, h, w] is the picture, in -1..1, and is cut to that range.

    `size` is the default (height, width), and every size a multiple of `size_multiple`; a `fixed` one is the only one.
    """

    kind: Literal["pixels"] = field(default="pixels", init=False)
    size: tuple[Side, Side]
    channels: Few = 3
    size_multiple: Side = 1
    fixed: bool = False
    to_uint8: Literal["truncate", "round"] = "round"

    @property
    def factor(self) -> int:
        """Pixels of a cell's side."""
        return 1

    def pictures(self, latents: np.ndarray, run: ProcessRun) -> list[Image.Image]:
        """The state as pictures."""
        return to_images(np.clip(latents, -1, 1), self.to_uint8)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """No picture yet: later processes read the state [B, channels, h, w], as a coarse level of their latents.

    `size` is the default (height, width) of the picture to come, in pixels, of which a cell has `factor` a side; every
    size must be a multiple of `size_multiple`.
    """

    kind: Literal["unfinished"] = field(default="unfinished", init=False)
    channels: Few
    factor: Few
    size: tuple[Side, Side]
    size_multiple: Side

    def pictures(self, latents: np.ndarray, run: ProcessRun) -> list[Image.Image]:
        """None."""
        return []


@dataclass(frozen=True, slots=True)
class LatentsProcess(SampledProcess):
    """float32 latents [count, C, h, w], or pixels where there is no decoder.

    Its graphs also take `latents` and `timestep` float32 [B], and where the guidance is embedded `guidance` float32
    [B], and return `noise` like the latents, and with `learned_variance` `variance`, its logits, too. With a `preview`
    that decoder shows the steps. A `stage` has its own options for steps and guidance.
    """

    kind: Literal["latents"] = field(default="latents", init=False)
    segments: tuple[Segment, ...]
    sampler: SamplerChoice
    decoder: Decoder | Pixels | Unfinished
    schedule: Schedule = field(default_factory=Schedule)
    guidance: Guidance = field(default_factory=Guidance)
    writes: str | None = None
    preview: Decoder | None = None
    stage: Stage | None = None
    learned_variance: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """What its graphs predict."""
        return ("noise", "variance") if self.learned_variance else ("noise",)

    @property
    def state(self) -> str:
        """What its graphs call the state."""
        return "latents"

    @property
    def way(self) -> tuple[Schedule, SamplerChoice, Guidance]:
        """How it is walked, which all levels of latents have in common."""
        return self.schedule, self.sampler, self.guidance

    @property
    def gives(self) -> tuple[str, ...]:
        """What becomes of its last state."""
        return () if isinstance(self.decoder, Unfinished) else ("picture",)

    @property
    def canvas(self) -> Canvas:
        """The sizes that it draws."""
        fixed = isinstance(self.decoder, Pixels) and self.decoder.fixed
        return Canvas(self.decoder.size, self.decoder.factor, self.decoder.size_multiple, fixed)

    def state_shape(self, grid: tuple[int, int]) -> Shape:
        """The shape of one picture's state, of a grid of cells."""
        return (self.decoder.channels, *grid)

    def tail_graphs(self) -> tuple[str, ...]:
        """The graphs behind the last step, and behind one that is shown."""
        return tuple(decoder.graph for decoder in self._decoders())

    def optional_graphs(self, by_preview: bool = False) -> tuple[str, ...]:
        """Those that a run which shows no step does without; `by_preview` is how its picture is decoded."""
        if self.preview is None or not isinstance(self.decoder, Decoder):
            return ()
        return (self.decoder.graph,) if by_preview else (self.preview.graph,)

    def tail_lines(self) -> list[str]:
        """What is done with the last latents, in words."""
        decoder, (height, width) = self.decoder, self.decoder.size
        if isinstance(decoder, Pixels):
            return [f"the pixels themselves, {height}x{width}, {decoder.to_uint8} to bytes"]
        if isinstance(decoder, Unfinished):
            return []
        read = ", ".join(["latents", *decoder.context.values()])
        return [
            f"{read} -> {decoder.graph} -> {height}x{width} pixels, {decoder.factor} per latent, {decoder.to_uint8} "
            "to bytes",
            *(f"latents -> {graph} -> previews" for graph in self.tail_graphs()[1:]),
        ]

    def calls(self) -> Iterator[PlannedCall]:
        """What it asks of each graph."""
        latents = ("batch", self.decoder.channels, "height", "width")
        for segment in self.segments:
            own = ("latents", "timestep", *(("guidance",) if self.guidance.rule == "embedded" else ()))
            fed = segment.context | {name: name for name in own}
            shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(("latents", *self.outputs), latents)
            shapes |= {name: ("batch",) for name in own[1:]}
            yield PlannedCall(segment.graph, fed, {name: name for name in self.outputs}, shapes)
        for decoder in self._decoders():
            image: tuple[int | str, ...] = ("batch", 1 if decoder.grey else 3, "height", "width")
            shapes = {"latents": latents, "image": image}
            yield PlannedCall(decoder.graph, decoder.context | {"latents": "latents"}, {"image": "image"}, shapes)

    def state_shapes(self, call: CallShape) -> dict[str, Shape]:
        """The shapes of what changes from step to step, one row each picture."""
        shapes: dict[str, Shape] = {
            "latents": (call.count, self.decoder.channels, *self.canvas.cells(call.size)),
            "timestep": (call.count,),
        }
        return shapes | ({"guidance": (call.count,)} if self.guidance.rule == "embedded" else {})

    def tail_shapes(self, call: CallShape) -> dict[str, dict[str, Shape]]:
        """The shapes of what each graph behind the last step reads."""
        return {graph: {"latents": self.state_shapes(call)["latents"]} for graph in self.tail_graphs()}

    def tail_context(self) -> dict[str, dict[str, str]]:
        """The slots that each graph behind the last step reads beside the latents, by its inputs."""
        return {decoder.graph: decoder.context for decoder in self._decoders()}

    def problems(self) -> list[str]:
        """What does not fit together inside it."""
        found = segment_problems(self.segments, self.schedule.train_steps - 1)
        decoder = self.decoder
        if self.preview is not None and (self.preview.channels, self.preview.factor) != (
            decoder.channels,
            decoder.factor,
        ):
            found.append(
                f"plan: expected previews of the decoder's {decoder.channels} channels, {decoder.factor} pixels a "
                f"latent, got {self.preview.channels} and {self.preview.factor}"
            )
        if decoder.size_multiple % decoder.factor:
            found.append(
                f"plan: expected sizes in multiples of the factor {decoder.factor}, got {decoder.size_multiple}"
            )
        if any(side % decoder.size_multiple for side in decoder.size):
            found.append(f"plan: expected a size in multiples of {decoder.size_multiple}, got {list(decoder.size)}")
        found += self.sampler_problems()
        if self.learned_variance != (self.sampler.settings.variance_type == LEARNED):
            found.append(f"plan: expected a learned variance with the setting variance_type {LEARNED}, got one of both")
        return found

    def walk(self, run: ProcessRun) -> Generator[Step, Any, None]:
        """A step of the sampler after the other."""
        sampler = run.sampler
        assert sampler is not None, "latents without a sampler"
        noise, draw = draws_of(run, self.state_shape(run.grid))
        noise = over_regions(noise, run.slots)
        kept = self._kept(run.slots)
        begin = Begin(run.first_step or 0, partial(kept.over, noise))
        if run.first_step is None:
            x = noise * np.float32(sampler.noise_scale)
        else:
            x = sampler.starts[run.first_step].of(run.slots[START_LATENTS], noise)
        walk, timesteps = sampler.run(x, run.noise_of, draw, begin), sampler.timesteps[begin.step :]
        for index, timestep in enumerate(timesteps):
            with run.timings("denoise"):
                latents = next(walk)
            preview = partial(self._preview, run, sampler, *run.latest())
            yield Step(index, len(timesteps), timestep, latents, preview)

    def written(self, state: np.ndarray, session: Callable[[str], Session]) -> np.ndarray:
        """What later processes read of the last state: the state."""
        return state

    def decode(self, state: np.ndarray, run: ProcessRun) -> Decoded:
        """The pictures of the last latents. Raises InputError for a run that ran away: it would be a black picture."""
        if not np.isfinite(state).all():
            raise InputError(
                "latents: expected finite numbers after the last step, got NaN or infinite ones; lower guidance or "
                "strength"
            )
        decoder = self.preview if run.by_preview and self.preview is not None else self.decoder
        return Decoded(images=decoder.pictures(state, run))

    def _preview(
        self, run: ProcessRun, sampler: Sampler, shown: np.ndarray, timestep: float, noise: np.ndarray
    ) -> list[Any]:
        """What the latest call of the denoiser means, decoded."""
        run.before_preview()
        assert sampler.clean is not None, "a sampler that was not made by its name"
        clean = sampler.clean(shown, noise, timestep)
        shows = self.preview or self.decoder
        return shows.pictures(self._kept(run.slots).over(clean, clean, CLEAN), run)

    def _decoders(self) -> tuple[Decoder, ...]:
        """Those with a graph, of the picture and of previews."""
        return tuple(each for each in (self.decoder, self.preview) if isinstance(each, Decoder))

    def _kept(self, slots: NamedTensors) -> "_Kept":
        """What of a start stays as it is: all that is not drawn anew, unless the UNet fills that itself."""
        reads_mask = any(DRAWN_ANEW in segment.context.values() for segment in self.segments)
        mask = None if reads_mask else slots.get(DRAWN_ANEW)
        return _Kept(slots.get(START_LATENTS), mask)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Clean latents [B, C, h, w], and a mask [B, 1, h, w] that is 1 where they are drawn anew; None keeps nothing."""

    latents: np.ndarray | None
    mask: np.ndarray | None

    def over(self, noise: np.ndarray, drawn: np.ndarray, level: Level) -> np.ndarray:
        """What is drawn, with what stays at the same level in its place."""
        if self.latents is None or self.mask is None:
            return drawn
        return (1 - self.mask) * level.of(self.latents, noise) + self.mask * drawn
