"""From a prompt to pictures: encode the conditions, walk the sampler's steps, decode."""

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Unpack, cast

import numpy as np
from PIL import Image

from .bundle.cfg_batch import merged_prompts
from .bundle.plan import Plan, Process
from .bundle.preset import Preset
from .bundle.reader import Bundle
from .conditions import Conditions
from .errors import InputError, collect_problems, one_line
from .inputs.option import NamedTensors, Option, short
from .inputs.registry import RunOptions
from .inputs.sound import MIX
from .machine import usable_cores
from .media.parameters import Parameters
from .memory_limit import MemoryLimit, RunShape
from .output import Output, Step, Timings
from .processes.denoiser import Denoiser
from .processes.picture_rows import PictureRows
from .processes.run import ProcessRun
from .redraw.run_record import RunRecord
from .request import Request, make_request, options_of_prompts, usual_guidance
from .sessions.cache import SessionCache
from .sessions.session import Session
from .text_bundle import TEXT_OPTIONS, TextBundle
from .token_samplers.row_blocks import on_cores

Prompts = str | Sequence[str] | None
"""One prompt, or several that are drawn at once."""


class Pipeline:
    """Draws with one bundle. `open_session(graph name)` gives the sessions, each opened once; `text` is a second bundle
    whose prompts are mixed in; `backend` runs the graphs, and `notes` say why no better one does; `preset` is one of
    the plan's, and what calls use that name none. `openers` graphs are opened at a time; with 0, and under a `limit`,
    each is opened when it is needed. Under a limit it is closed when the next one is, and every call is refused that
    would need more. `threads` draw tokens, all usable cores where it is left out. Safe to call from several threads."""

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
        threads: int | None = None,
    ):
        self.bundle, self.backend, self.notes, self.preset = bundle, backend, notes, preset
        self._limit, self._cores = limit, threads or usable_cores()
        self._sessions = SessionCache(open_session, None if limit is None else limit.co_resident)
        self._conditions = Conditions(bundle, self._sessions)
        self._text = text
        if limit is None and openers:
            self.open(openers)

    def open(self, openers: int = 1) -> None:
        """Opens the graphs that every call needs, so many at a time. Raises InputError where one cannot be opened."""
        wanted = self._plan.needed_graphs(self.preset)
        self._sessions.preopen([graph for graph in self.bundle.manifest.graphs if graph in wanted], openers)

    def close(self) -> None:
        """Lets go of every graph, and of the memory behind them once no call runs; the next call opens its own."""
        self._sessions.close()

    def prompt_need(self) -> Literal["required", "optional", "none"]:
        """Whether the bundle reads a prompt."""
        return self.bundle.manifest.prompt_need

    def options(self) -> dict[str, Option]:
        """The options that a call may be given, by name, in the order in which people read them: each with its form,
        help, bounds and choices, and as default what the bundle draws with, None where that is not one value."""
        plan = self._plan
        preset = Preset() if self.preset is None else plan.presets[self.preset]
        steps = plan.main.steps if preset.steps is None else preset.steps
        size = plan.process.canvas.size
        own = {"steps": steps, "guidance": usual_guidance(plan, preset), "size": size, "count": 1}
        return {
            name: replace(option, default=own.get(name, option.default))
            for name, option in self.bundle.manifest.options().items()
            if name != "mix" or self._text is not None
        }

    def check(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> Request:
        """What a call would draw, defaults filled in, before anything is drawn. Raises InputError for bad input, with
        every problem."""
        return self._request(prompt, options)[0]

    def session(self, graph: str) -> Session:
        """The session of a graph; those for a caller's choice, or for a start, are opened on their first use."""
        return self._sessions(graph)

    def __call__(
        self,
        prompt: Prompts = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        **options: Unpack[RunOptions],
    ) -> Output:
        """Draws `count` pictures of a prompt, where the bundle reads one, or of each of several prompts at once.

        The keywords are those of `RunOptions`: `language`, `negative` (text to steer away from), `steps`, `guidance` (1
        switches it off), `sampler`, `seed`, `noise` (float32 [count, C, h, w], replaces the seed's draw of the start
        noise), `size` (height, width in pixels), `count`, `preset` (one of the bundle's), `start` with `start_strength`
        and `inpaint` (a picture to redraw, or to fill where a mask is white), and what the bundle draws from:
        `subject`, `mask`, `subjects`, `image`, `sound`... What is left out comes from the bundle's plan.
        Of several prompts picture k has seed + k, the pictures of a prompt follow one another, `negative` may be a list
        with one for each, and everything else is for all. `on_step` is called after every step, as a progress bar needs
        it. Raises InputError for bad input, with every problem.
        """
        if on_step is not None and not callable(on_step):
            raise InputError(f"on_step: expected a function of a step, got {short(on_step)}; leave it out")
        walk = self._begun(prompt, options)
        last = None
        for step in walk:
            last = step
            if on_step is not None:
                on_step(step)
        assert last is not None, "a run without a step"
        return walk.finish(last)

    def steps(self, prompt: Prompts = None, **options: Unpack[RunOptions]) -> "Walk":
        """The same run as an iterator of steps; leaving the loop stops it. Bad input raises before the first step."""
        return self._begun(prompt, options)

    def _begun(self, prompt: Prompts, options: RunOptions) -> "Walk":
        timings = Timings()
        calls = self._calls(prompt, options)
        request, slots, notes = self._encode(calls, timings)
        record = None
        if "picture" in self._plan.process.gives:
            text = None if self._text is None or prompt is None else self._text.bundle
            given = {"preset": self.preset, **options}
            texts = [(own, str(each.get("negative", ""))) for own, each in calls] if len(calls) > 1 else []
            record = RunRecord(self.bundle, text, self.backend, calls[0][0], given, request, texts)
        alone = self._limit is not None
        return Walk(
            self.bundle, self._sessions, self._conditions, request, slots, notes, timings, alone, record, self._cores
        )

    @property
    def _plan(self) -> Plan:
        return self.bundle.manifest.plan

    def _calls(self, prompt: Prompts, options: RunOptions) -> list[tuple[str | None, RunOptions]]:
        """Each prompt with its options. Raises InputError for several that cannot be drawn at once."""
        if prompt is None or isinstance(prompt, str) or not isinstance(prompt, list | tuple):
            return [(cast("str | None", prompt), options)]
        if self._text is not None:
            raise InputError(f"prompt: expected one beside a text bundle, got {len(prompt)}; give one")
        return list(zip(prompt, options_of_prompts(self._plan, prompt, options), strict=True))

    def _encode(
        self, calls: list[tuple[str | None, RunOptions]], timings: Timings
    ) -> tuple[Request, NamedTensors, tuple[str, ...]]:
        """The checked request, all slots, and warnings, which are also given to Python's."""
        with timings("encode"):
            # What is open may read its file on, and what is not will read it.
            self.bundle.check_graphs(name for name in self.bundle.manifest.graphs if name in self._sessions.open)
            requests = [self._request(prompt, options) for prompt, options in calls]
            request, other, others_notes = requests[0]
            request = replace(self._within_limit(request), prompts=len(calls))
            context, notes = self._conditions(request, other)
            if len(calls) > 1:
                encoded = [(context, notes), *(self._conditions(own, other) for own, _, _ in requests[1:])]
                context = merged_prompts([slots for slots, _ in encoded], request.rows)
                notes = tuple(note for _, own in encoded for note in own)
        # They hold prompts and names of files.
        notes = tuple(dict.fromkeys(map(one_line, (*others_notes, *notes))))
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=4)
        return request, context, notes

    def _within_limit(self, request: Request) -> Request:
        """The request, with the guidance's sides apart where the limit asks for it. Raises InputError where it needs
        more even so, before anything is opened."""
        if self._limit is None:
            return request
        height, width = self._plan.process.canvas.cells(request.size)
        unused = self._conditions.unused_graphs(request)
        wanted = [name for name in self._plan.graphs(request.preset_name) if name not in unused]
        graphs = dict.fromkeys(request.serving(name.format(**request.choices)) for name in wanted)
        ends = request.preset.guidance_interval is not None
        shapes = [
            RunShape(height * width, request.count, rows, 2 if ends and rows == 2 else 1)
            for rows in range(request.rows, 0, -1)
        ]
        chosen = self._limit.first_that_fits(shapes, tuple(graphs))
        return replace(request, split_cfg_batch=chosen.sides < request.rows)

    def _request(self, prompt: str | None, options: RunOptions) -> tuple[Request, np.ndarray | None, tuple[str, ...]]:
        """The checked request, the context to mix in where a second bundle reads the prompt, and its warnings."""
        manifest, tokenizers = self.bundle.manifest, self._conditions.prompt_tokenizers
        merged: RunOptions = {"preset": self.preset, **options}
        if self._text is None or prompt is None:
            return make_request(manifest, prompt, tokenizers, **merged), None, ()
        own = cast(RunOptions, {name: value for name, value in merged.items() if name not in TEXT_OPTIONS})
        if own.get("mix") is None:
            own["mix"] = MIX
        guidance = options.get("guidance")
        read = cast(RunOptions, {name: value for name, value in merged.items() if name in TEXT_OPTIONS})
        named = merged.get("preset")
        preset = manifest.plan.presets.get(named, Preset()) if isinstance(named, str) else Preset()
        read["guidance"] = usual_guidance(manifest.plan, preset) if guidance is None else guidance
        request, spoken = collect_problems(
            partial(make_request, manifest, None, (), True, **own), partial(self._text.request, prompt, **read)
        )
        return request, *self._text.context(spoken)


class Walk(Iterator[Step]):
    """One run, step by step through its processes; `finish` decodes what the last step left.

    Tokens that are sent in (`send`) take the place of the state of the step before.
    """

    def __init__(
        self,
        bundle: Bundle,
        sessions: SessionCache,
        conditions: Conditions,
        request: Request,
        slots: NamedTensors,
        notes: tuple[str, ...],
        timings: Timings,
        alone: bool,
        record: RunRecord | None,
        cores: int,
    ):
        self._bundle, self._sessions, self._conditions, self._request = bundle, sessions, conditions, request
        self._slots, self._notes, self._alone, self._cores = slots, notes, alone, cores
        self.timings = timings
        """How long each stage took so far."""
        self._record = record
        self._written, self._joined = bundle.manifest.plan.picture_slots(), frozenset[str]()
        self._denoisers: list[Denoiser] = []
        self._steps = self._walked()

    @property
    def slots(self) -> NamedTensors:
        """What inputs, conditioners and the processes so far left, by name."""
        return self._slots

    def __next__(self) -> Step:
        return next(self._steps)

    def send(self, tokens: np.ndarray | None) -> Step:
        """The next step, of a walk through tokens after the state was replaced by `tokens`, int64 [count, length]."""
        if tokens is not None:
            # What comes of them no record of the run explains.
            self._record = None
        return self._steps.send(tokens)

    def close(self) -> None:
        """Stops the run."""
        self._steps.close()

    def finish(self, last: Step) -> Output:
        """What the run gives, decoded from its last step. Raises InputError for a run that ran away."""
        process = self._bundle.manifest.plan.process
        run = self._run(process, self._denoisers[-1])
        for denoiser in self._denoisers:
            denoiser.release()
        with self.timings("decode"):
            made = process.decode(last.state, run)
        return Output(
            made.images,
            last.latents,
            self.timings.seconds(),
            self._notes,
            tuple(number for denoiser in self._denoisers for number in denoiser.served),
            tuple(graph for denoiser in self._denoisers for graph in denoiser.graphs),
            tuple(self.timings.spans),
            last.tokens,
            made.texts,
            made.sounds,
            self._parameters(made.images, last),
        )

    def _parameters(self, images: list[Image.Image], last: Step) -> tuple[Parameters, ...]:
        """Of the pictures of a run that was walked to its end."""
        if self._record is None or last.index + 1 < last.count:
            return ()
        return self._record.parameters(images, last.count)

    def _walked(self) -> Generator[Step, np.ndarray | None, None]:
        """Each process in turn, the slots that it writes handed on."""
        plan = self._bundle.manifest.plan
        left_out = plan.left_out(self._slots)
        for number, process in enumerate(plan.processes):
            if number in left_out:
                self._write(process, self._slots[str(process.writes)])
                continue
            self._condition(number)
            denoiser = self._denoiser(process)
            walk, step, sent = process.walk(self._run(process, denoiser)), None, None
            while True:
                try:
                    with on_cores(self._cores):
                        step = walk.send(sent)
                except StopIteration:
                    break
                sent = yield step
            if process.writes is not None:
                assert step is not None, "a process without a step"
                with self.timings("decode"):
                    written = process.written(step.state, self._sessions)
                self._write(process, written)

    def _write(self, process: Process, state: np.ndarray) -> None:
        """Leaves a process's state, a row for each picture, to those behind it."""
        assert process.writes is not None
        rows = np.repeat(state, self._request.count // len(state), axis=0)
        self._slots = self._slots | {process.writes: rows}
        self._written |= {process.writes}

    def _condition(self, number: int) -> None:
        """Runs the conditioners that wait for the process before the one of a number."""
        plan = self._bundle.manifest.plan
        waiting, process = plan.conditioners_before(number) if number else (), plan.processes[number]
        if not waiting:
            return
        sides = process.guidance.rows(self._request.guidance_of(plan, process))
        with self.timings("encode"):
            made = self._conditions.joined(waiting, self._slots, self._written, sides, self._request)
        self._slots, self._joined = self._slots | made, self._joined | made.keys()

    def _denoiser(self, process: Process) -> Denoiser:
        request, plan = self._request, self._bundle.manifest.plan
        scale = request.guidance_of(plan, process)
        preset = request.preset if process is plan.main else None
        denoiser = Denoiser(
            process, self._sessions, self._slots, request, scale, self._written, self._joined, preset, self._alone
        )
        self._denoisers.append(denoiser)
        return denoiser

    def _run(self, process: Process, denoiser: Denoiser) -> ProcessRun:
        request, plan = self._request, self._bundle.manifest.plan
        last, main, level = process is plan.process, process is plan.main, plan.is_level(process)
        # Of what the caller recorded nothing is for a process that neither follows the call nor has its own options.
        steered = level or process.stage is not None
        rows = PictureRows(self._slots, request, self._written, self._joined)
        canvas = process.canvas
        return ProcessRun(
            predict=denoiser,
            noise_of=denoiser.noise_of,
            latest=denoiser.latest,
            session=self._sessions,
            file=self._bundle.checked,
            timings=self.timings,
            seed=request.seed,
            count=request.count,
            grid=canvas.cells(canvas.of_call(request.size)),
            noise=request.noise if steered else None,
            sampler=request.sampler if level else process.stage_sampler(request.values),
            first_step=request.first_step if main else None,
            values=request.values if main else {**request.values, "steps": None},
            slots=self._slots,
            rows=lambda slot: rows(slot, 1),
            # Under a limit the next step opens and binds the denoiser again.
            before_preview=denoiser.release if self._alone else lambda: None,
            by_preview=last and request.preset.preview_decoder,
            draws=plan.draw_prefix(process),
        )
