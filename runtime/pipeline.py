"""From a prompt to pictures: encode the conditions, walk the sampler's steps, decode."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from .bundle import Bundle
from .conditions import Conditions
from .denoiser import Call, Denoiser
from .errors import InputError
from .images import to_images
from .noise import Noise
from .request import Request, make_request
from .sessions.session import Session
from .slots import Slots
from .timings import Timings


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run. `latents` is the sampler's state after it, float32 [count, C, h, w]."""

    index: int
    count: int
    timestep: float
    latents: np.ndarray
    preview: Callable[[], list[Image.Image]]
    """Decodes the picture the denoiser currently predicts, one image per picture drawn."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a run gives: `images` (PIL, RGB), `latents` float32 [count, C, h, w] before decoding, `timings` in seconds
    per stage, and `warnings`, one line each."""

    images: list[Image.Image]
    latents: np.ndarray
    timings: dict[str, float]
    warnings: tuple[str, ...]


class Pipeline:
    """Draws with one bundle. `open_session(graph name)` gives the sessions, each opened once."""

    def __init__(self, bundle: Bundle, open_session: Callable[[str], Session]):
        self.bundle = bundle
        self._open_session = open_session
        self._sessions: dict[str, Session] = {}
        self._conditions = Conditions(bundle, self.session)
        for graph in bundle.manifest.graphs:
            if graph in bundle.manifest.plan.graphs():
                self.session(graph)

    def session(self, graph: str) -> Session:
        """The session of a graph; graphs that stand for a caller's choice are opened on their first use."""
        if graph not in self._sessions:
            self._sessions[graph] = self._open_session(graph)
        return self._sessions[graph]

    def __call__(self, prompt: str, **options: Any) -> Output:
        """Draws `count` pictures of a prompt.

        Options: `language`, `negative` (text to steer away from), `steps`, `guidance` (1 switches it off), `sampler`,
        `seed`, `noise` (float32 [count, C, h, w], replaces the seed's draw of the start noise), `size` (height, width
        in pixels), `count`, and those of `x2i.runtime.given.Given` for what the bundle draws from: `subject`, `mask`,
        `image`, `word`, `strength`... What is left out comes from the bundle's plan. Raises InputError for bad input.
        """
        timings = Timings()
        request, context, notes = self._encode(prompt, options, timings)
        latents = None
        for step in self._walk(request, context, timings):
            latents = step.latents
        assert latents is not None
        _check_finite(latents)
        with timings("decode"):
            images = self._decode(latents)
        return Output(images, latents, timings.seconds(), notes)

    def steps(self, prompt: str, **options: Any) -> Iterator[Step]:
        """The same run as a generator of steps; leaving the loop stops it. Bad input raises before the first step."""
        timings = Timings()
        request, context, _ = self._encode(prompt, options, timings)
        return self._walk(request, context, timings)

    def _request(self, prompt: str, options: dict[str, Any]) -> Request:
        return make_request(self.bundle.manifest, prompt, self._conditions.word_tokenizer, **options)

    def _encode(self, prompt: str, options: dict[str, Any], timings: Timings) -> tuple[Request, Slots, tuple[str, ...]]:
        """The checked request, all slots, and warnings, which are also given to Python's."""
        with timings("encode"):
            request = self._request(prompt, options)
            context, notes = self._conditions(request)
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        return request, context, notes

    def _walk(self, request: Request, context: Slots, timings: Timings) -> Iterator[Step]:
        sampler = request.sampler
        denoiser = Denoiser(self.bundle.manifest.plan, self.session, context, request.guidance, request.count)
        draw = Noise(request.seed, request.count, self._latent_shape(request))
        start = draw() if request.noise is None else request.noise
        walk = sampler.run(start * np.float32(sampler.noise_scale), denoiser, draw)
        for index, timestep in enumerate(sampler.timesteps):
            with timings("denoise"):
                latents = next(walk)
            assert denoiser.last is not None, "a step without a call of the denoiser"
            yield Step(index, len(sampler.timesteps), timestep, latents, partial(self._preview, denoiser.last))

    def _preview(self, call: Call) -> list[Image.Image]:
        return self._decode(call.clean_latents(self.bundle.manifest.plan.schedule))

    def _decode(self, latents: np.ndarray) -> list[Image.Image]:
        decoder = self.bundle.manifest.plan.decoder
        return to_images(self.session(decoder.graph)(latents=latents)["image"], decoder.to_uint8)

    def _latent_shape(self, request: Request) -> tuple[int, int, int]:
        decoder = self.bundle.manifest.plan.decoder
        return decoder.channels, request.size[0] // decoder.factor, request.size[1] // decoder.factor


def _check_finite(latents: np.ndarray) -> None:
    """Raises InputError for a run that ran away: decoded, it would be a black picture."""
    if not np.isfinite(latents).all():
        raise InputError(
            "latents: expected finite numbers after the last step, got NaN or infinite ones; lower guidance or strength"
        )
