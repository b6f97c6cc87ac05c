"""What a system is to the exporter: the parts it takes, the sampler it draws with, and how it is built."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from x2i.runtime.bundle.manifest import alike_but_for_case
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.inputs.text.learned import WORD_NAME
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.schedule import Schedule

from .errors import PlanError
from .plan import ExportPlan
from .sampling.defaults import DIFFUSERS_SAMPLING, count_problems, early_sampling
from .sampling.few_step import few_step_sampling
from .sampling.schedulers import FolderSampling
from .to_onnx import Component


@dataclass(frozen=True, slots=True)
class Build:
    """A system read from its files: the runtime's plan, the tokenizers (file name to JSON text), and its components.

    `components` is an iterator over `count` of them, so that a component's weights can be freed before the next one is
    traced. `notes` tell the user in one line each what is drawn in another way than a file says.
    """

    plan: Plan
    tokenizers: dict[str, str]
    components: Iterator[Component]
    count: int
    notes: tuple[str, ...] = ()


def consume(components: list[Component]) -> Iterator[Component]:
    """Yields components front to back and removes each from the list, so that its weights can be freed after use."""
    while components:
        yield components.pop(0)


BASE_PARTS = {
    "vae": "a VAE instead of the base's: a diffusers folder, or a .safetensors or .ckpt in diffusers' or CompVis' names"
}
"""The parts of every system that stands on a Stable Diffusion base."""
TEXT_PARTS = {
    "embedding:TOKEN": "a learned word (textual inversion): .safetensors, .pt or .bin; prompts write it as TOKEN"
}
"""The parts of every system whose prompts the base's own text encoder reads."""


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """A system: how it is built, what it samples with, and the parts it takes.

    `build(plan)` reads the files and raises CheckpointError or PlanError. `sampler` is the default, None for the base's
    own; for a base in CompVis' layout it is `compvis_sampler`, where there is one. `required` and `optional` map part
    names to what the part is, beside BASE_PARTS and TEXT_PARTS; a name that ends in `:NAME` is repeatable. `reads_clip`
    says that the base's own text encoder reads the prompts, `composes` that contexts are composed of items.

    One that `stands_alone` has no such base: `base` says what its own is, a folder of other contents, None where it has
    parts alone; its sampler and its number of steps are its checkpoint's.
    """

    build: Callable[[ExportPlan], Build]
    sampler: SamplerChoice | None = None
    compvis_sampler: SamplerChoice | None = None
    required: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)
    reads_clip: bool = True
    composes: bool = False
    stands_alone: bool = False
    base: str | None = "a diffusers folder, a hub name or a CompVis checkpoint"

    def sampler_of(self, layout: str, own: SamplerChoice | None) -> SamplerChoice:
        """The default sampler on a base of this layout, "diffusers" or "compvis", whose own is `own`."""
        chosen = self.compvis_sampler if layout == "compvis" else None
        return chosen or self.sampler or own or DIFFUSERS_SAMPLING

    def check(self, plan: ExportPlan) -> None:
        """Raises PlanError with one line per problem, before any weight is read.

        A count of steps that depends on a schedule not yet known, as that of a hub's base, is checked after the build.
        """
        problems = [*self._base_problems(plan), *plan.problems()]
        if plan.boundaries and not any(name.startswith("expert:") for name in self.required):
            problems.append("--boundaries: this system has one denoiser for all timesteps; leave it out")
        if not self.composes:
            problems += [f"--{name}: this system composes no items; leave it out" for name in plan.composition]
        if self.stands_alone:
            problems += self._latents_problems(plan)
            problems += self._part_problems(plan.parts) if plan.random_weights is None else []
            if problems:
                raise PlanError(*problems)
            return
        if plan.clip_skip is not None and not self.reads_clip:
            problems.append("--clip-skip: this system reads no prompt with the base's CLIP; leave it out")
        if plan.random_weights is None:
            problems += self._part_problems(plan.parts)
            try:
                known = early_sampling(plan.base, plan.base_config, plan.scheduler)
            except PlanError as error:
                raise PlanError(*problems, *error.problems) from error
        else:
            # Random weights are drawn for Stable Diffusion v1's own schedule.
            known = "diffusers", FolderSampling(Schedule(), DIFFUSERS_SAMPLING)
        layout, sampling = known or ("diffusers", None)
        default = self._sampler_of(plan, layout, sampling)
        problems += count_problems(plan.sampling(default), None if sampling is None else sampling.schedule)
        if problems:
            raise PlanError(*problems)

    def _sampler_of(self, plan: ExportPlan, layout: str, sampling: FolderSampling | None) -> SamplerChoice:
        if plan.few_step is not None and sampling is not None:
            return few_step_sampling(sampling)
        return self.sampler_of(layout, None if sampling is None else sampling.sampler)

    def _base_problems(self, plan: ExportPlan) -> list[str]:
        if plan.random_weights is not None:
            return []
        if self.base is None:
            unread = [name for name in ("base", "base_config") if getattr(plan, name) is not None]
            names = [f"--{name.replace('_', '-')}" for name in unread]
            return [f"{name}: this system is made of parts alone; leave it out" for name in names]
        return [f"--base: expected {self.base}, got nothing"] if plan.base is None else []

    def _latents_problems(self, plan: ExportPlan) -> list[str]:
        """Options of a Stable Diffusion base, of its LoRAs and of its samplers."""
        names = ("sampler", "steps", "clip_skip", "few_step", "decoder", "preview_decoder")
        given = {f"--{name.replace('_', '-')}": getattr(plan, name) for name in names}
        given |= {"--inpainting": True if plan.inpainting else None}
        problems = [
            f"{name}: this system is sampled as its own checkpoint says; leave it out"
            for name, value in given.items()
            if value is not None
        ]
        return problems + (["--lora: this system has no Stable Diffusion base; leave it out"] if plan.loras else [])

    def _part_problems(self, parts: dict[str, Path]) -> list[str]:
        """Parts that are missing, unknown or badly named."""
        known = self.required | self.optional | ({} if self.stands_alone else BASE_PARTS)
        known |= TEXT_PARTS if self.reads_clip and not self.stands_alone else {}
        problems = [
            f"--part {' and '.join(names)}: expected names that differ by more than upper and lower case, as files of "
            "Windows and macOS do; rename one"
            for names in alike_but_for_case(parts)
        ]
        usage = "; ".join(f"{name} ({meaning})" for name, meaning in known.items())
        problems += [
            f"--part {name}: unknown for this system; it takes {usage}" for name in parts if not _fits(name, known)
        ]
        problems += [
            f"--part {name}: expected {meaning}, got nothing"
            for name, meaning in self.required.items()
            if not any(_fits(part, {name: meaning}) for part in parts)
        ]
        return problems


def _fits(part: str, known: dict[str, str]) -> bool:
    kind, colon, name = part.partition(":")
    if not colon:
        return part in known
    pattern = WORD_NAME if kind == "embedding" else r"[\w-]+"
    return any(k.startswith(f"{kind}:") for k in known) and re.fullmatch(pattern, name) is not None
