"""From a prompt to pictures: encode the conditions, walk the sampler's steps, decode."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Unpack, cast

import numpy as np
from PIL import Image

from .bundle.plan import Plan
from .bundle.reader import Bundle
from .conditions import Conditions
from .denoiser import Denoiser, DenoiserCall
from .errors import InputError, collect_problems, one_line
from .inputs.option import NamedTensors, short
from .inputs.registry import RunOptions
from .inputs.sound import MIX
from .memory_limit import MemoryLimit, RunShape
from .output import Output, Step, Timings, to_images
from .request import Request, make_request
from .samplers.sampler import Noise, Sampler
from .sessions.cache import SessionCache
from .sessions.session import Session
from .text_bundle import TEXT_OPTIONS, TextBundle


class Pipeline:
    """Draws with one bundle. `open_session(graph name)` gives the sessions, each opened once; `text` is a second bundle
    whose prompts are mixed in; `backend` runs the graphs, and `notes` say why no better one does; `preset` is one of
    the plan's, and what calls use that name none. `openers` graphs are opened at a time; under a `limit` each is opened
    when it is needed, and closed when the next one is, and every call is refused that would need more. Safe to call
    from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        open_session: Callable[[str], Session],
        text: TextBundle | None = None,
        backend: str = "cpu",
        notes: tuple[str, ...] = (),
        preset: str | None = None,
        limit: MemoryLimit | None = None,
        openers: int = 1,
    ):
        self.bundle, self.backend, self.notes, self.preset = bundle, backend, notes, preset
        self._limit = limit
        self._sessions = SessionCache(open_session, None if limit is None else limit.co_resident)
        self._conditions = Conditions(bundle, self._sessions)
        self._text = text
        if limit is None:
            wanted = bundle.manifest.plan.graphs(preset)
            self._sessions.preopen([graph for graph in bundle.manifest.graphs if graph in wanted], openers)

    def session(self, graph: str) -> Session:
        """The session of a graph; graphs that stand for a caller's choice are opened on their first use."""
        return self._sessions(graph)

    def __call__(
        self,
        prompt: str | None = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        **options: Unpack[RunOptions],
    ) -> Output:
        """Draws `count` pictures of a prompt, where the bundle reads one.

        The keywords are those of `RunOptions`: `language`, `negative` (text to steer away from), `steps`, `guidance` (1
        switches it off), `sampler`, `seed`, `noise` (float32 [count, C, h, w], replaces the seed's draw of the start
        noise), `size` (height, width in pixels), `count`, `preset` (one of the bundle's), and what the bundle draws
        from: `subject`, `mask`, `subjects`, `image`, `sound`... What is left out comes from the bundle's plan.
        `on_step` is called after every step, as a progress bar needs it. Raises InputError for bad input, with every
        problem.
        """
        if on_step is not None and not callable(on_step):
            raise InputError(f"on_step: expected a function of a step, got {short(on_step)}; leave it out")
        timings = Timings()
        request, context, notes = self._encode(prompt, options, timings)
        denoiser, latents = Denoiser(self._plan, self._sessions, context, request), None
        for step in self._walk(request, denoiser, timings):
            latents = step.latents
            if on_step is not None:
                on_step(step)
        assert latents is not None
        _check_finite(latents)
        denoiser.release()
        with timings("decode"):
            images = self._decode(latents)
        served, graphs, spans = tuple(denoiser.served), tuple(denoiser.graphs), tuple(timings.spans)
        return Output(images, latents, timings.seconds(), notes, served, graphs, spans)

    def steps(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> Iterator[Step]:
        """The same run as a generator of steps; leaving the loop stops it. Bad input raises before the first step."""
        timings = Timings()
        request, context, _ = self._encode(prompt, options, timings)
        return self._walk(request, Denoiser(self._plan, self._sessions, context, request), timings)

    @property
    def _plan(self) -> Plan:
        return self.bundle.manifest.plan

    def _encode(
        self, prompt: str | None, options: RunOptions, timings: Timings
    ) -> tuple[Request, NamedTensors, tuple[str, ...]]:
        """The checked request, all slots, and warnings, which are also given to Python's."""
        with timings("encode"):
            # What is open may read its file on, and what is not will read it.
            self.bundle.check_graphs(name for name in self.bundle.manifest.graphs if name in self._sessions.open)
            request, other, others_notes = self._request(prompt, options)
            request = self._within_limit(request)
            context, notes = self._conditions(request, other)
        # They hold prompts and names of files.
        notes = tuple(dict.fromkeys(map(one_line, (*others_notes, *notes))))
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        return request, context, notes

    def _within_limit(self, request: Request) -> Request:
        """The request, with the guidance's sides apart where the limit asks for it. Raises InputError where it needs
        more even so, before anything is opened."""
        if self._limit is None:
            return request
        _, height, width = request.latent_shape(self._plan.decoder)
        graphs = dict.fromkeys(name.format(**request.choices) for name in self._plan.graphs(request.preset_name))
        ends = request.preset.guidance_interval is not None
        shapes = [
            RunShape(height * width, request.count, rows, 2 if ends and rows == 2 else 1)
            for rows in range(request.rows, 0, -1)
        ]
        chosen = self._limit.first_that_fits(shapes, tuple(graphs))
        return replace(request, split_cfg_batch=chosen.sides < request.rows)

    def _request(self, prompt: str | None, options: RunOptions) -> tuple[Request, np.ndarray | None, tuple[str, ...]]:
        """The checked request, the context to mix in where a second bundle reads the prompt, and its warnings."""
        manifest, tokenizer = self.bundle.manifest, self._conditions.prompt_tokenizer
        merged: RunOptions = {"preset": self.preset, **options}
        if self._text is None or prompt is None:
            return make_request(manifest, prompt, tokenizer, **merged), None, ()
        own = cast(RunOptions, {name: value for name, value in merged.items() if name not in TEXT_OPTIONS})
        if own.get("mix") is None:
            own["mix"] = MIX
        guidance = options.get("guidance")
        read = cast(RunOptions, {name: value for name, value in merged.items() if name in TEXT_OPTIONS})
        read["guidance"] = manifest.plan.guidance.scale if guidance is None else guidance
        request, spoken = collect_problems(
            partial(make_request, manifest, None, None, True, **own), partial(self._text.request, prompt, **read)
        )
        return request, *self._text.context(spoken)

    def _walk(self, request: Request, denoiser: Denoiser, timings: Timings) -> Iterator[Step]:
        sampler = request.sampler
        draw = Noise(request.seed, request.count, request.latent_shape(self._plan.decoder))
        start = draw() if request.noise is None else request.noise
        walk = sampler.run(start * np.float32(sampler.noise_scale), denoiser, draw)
        for index, timestep in enumerate(sampler.timesteps):
            with timings("denoise"):
                latents = next(walk)
            assert denoiser.last is not None, "a step without a call of the denoiser"
            preview = partial(self._preview, denoiser, denoiser.last, sampler)
            yield Step(index, len(sampler.timesteps), timestep, latents, preview)

    def _preview(self, denoiser: Denoiser, call: DenoiserCall, sampler: Sampler) -> list[Image.Image]:
        if self._limit is not None:
            # Its limit counts the decoder alone: the next step opens and binds the denoiser again.
            denoiser.release()
        assert sampler.clean is not None, "a sampler that was not made by its name"
        return self._decode(sampler.clean(call.latents, call.output, call.timestep))

    def _decode(self, latents: np.ndarray) -> list[Image.Image]:
        decoder = self._plan.decoder
        return to_images(self.session(decoder.graph)(latents=latents)["image"], decoder.to_uint8)


def _check_finite(latents: np.ndarray) -> None:
    """Raises InputError for a run that ran away: decoded, it would be a black picture."""
    if not np.isfinite(latents).all():
        raise InputError(
            "latents: expected finite numbers after the last step, got NaN or infinite ones; lower guidance or strength"
        )
