"""What to export: the export command's options as one frozen record, and what is wrong with them by themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.writer import check_new
from x2i.runtime.errors import InputError
from x2i.runtime.items.sequence import Encoding
from x2i.runtime.items.weights import Weighting
from x2i.runtime.lora.choice import LoraChoice, choice_problems
from x2i.runtime.processes.latents import LatentsProcess, SamplerChoice
from x2i.runtime.samplers.settings import SamplerSettings

from .errors import PlanError
from .lower.lowering import Lowering
from .sampling.defaults import count_problems
from .sampling.few_step import few_step_scheduler

LARGEST_GUIDANCE = 1e30
"""What a manifest may hold."""


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export, from which files, to where.

    `base` is a diffusers folder, a hub name, or a CompVis checkpoint; `parts` maps the system's part names (such as
    `encoder` or `translator:French`) to files; `random_weights` names a variant that stands for all of them.
    `sampler`, `steps` (1 or more; both for latents alone) and `guidance` (finite) replace the system's own defaults in
    the bundle; `lowering`
    is the precision. `clip_skip` counts the last layers of CLIP's text encoder that the prompt leaves out,
    as in diffusers. `loras` are added to the base's weights, in any order.
    `few_step` is one of `few_step.FEW_STEPS`; `decoder` and `preview_decoder` are tiny autoencoders
    that decode instead of the base's VAE, all latents or those of steps that are shown.
    With `inpainting` the base's UNet reads a mask and a masked picture beside the latents. `boundaries` are the
    timesteps at which one of several experts takes over from the one before.
    `encoding` and `weighting` are how a context of several items is composed where a run does not say.
    """

    system: str
    out: Path
    base: str | None = None
    base_config: Path | None = None
    parts: dict[str, Path] = field(default_factory=dict)
    random_weights: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    licences: tuple[str, ...] = ()
    lowering: Lowering = field(default_factory=Lowering)
    clip_skip: int | None = None
    loras: tuple[LoraChoice, ...] = ()
    few_step: str | None = None
    decoder: Path | None = None
    preview_decoder: Path | None = None
    inpainting: bool = False
    boundaries: tuple[float, ...] = ()
    encoding: Encoding | None = None
    weighting: Weighting | None = None

    @property
    def composition(self) -> dict[str, Any]:
        """How items are composed, as far as it is said."""
        said = {"encoding": self.encoding, "weighting": self.weighting}
        return {name: value for name, value in said.items() if value is not None}

    def problems(self) -> list[str]:
        """What is wrong whatever the system is, one line each; no file is read."""
        problems: list[str] = []
        try:
            check_new(self.out)
        except InputError as error:
            problems += error.problems
        if self.random_weights is None:
            problems += self._file_problems()
        elif self.base or self.parts or self.base_config:
            problems.append("--random-weights: stands for all weights; leave out --base, --base-config and --part")
        if self.inpainting and self.random_weights is not None:
            problems.append("--inpainting: says what a base's UNet reads, got --random-weights; leave one of them out")
        if self.guidance is not None and not abs(self.guidance) <= LARGEST_GUIDANCE:
            problems.append(f"--guidance: expected a finite number, got {self.guidance}")
        problems += [f"--lora: {problem}" for problem in choice_problems(self.loras)]
        return problems + self.lowering.problems()

    def sampling(self, default: SamplerChoice) -> SamplerChoice:
        """The bundle's default sampler and steps, where `default` is the system's own."""
        name = default.name if self.sampler is None else self.sampler
        settings = default.settings if name == default.name else SamplerSettings()
        return SamplerChoice(name, default.steps if self.steps is None else self.steps, default.aliases, settings)

    def with_defaults(self, plan: Plan) -> Plan:
        """The runtime's plan with this export's sampling defaults; raises PlanError for a count that it cannot run."""
        main = plan.main
        guidance = main.guidance if self.guidance is None else replace(main.guidance, scale=self.guidance)
        if problems := main.guidance.problems(guidance.scale):
            raise PlanError(*(f"--{problem}" for problem in problems))
        changes: dict[str, Any] = {"guidance": guidance}
        if isinstance(main, LatentsProcess):
            changes["sampler"] = self.sampling(main.sampler)
            if problems := count_problems(changes["sampler"], main.schedule):
                raise PlanError(*problems)
        changed = (replace(each, **changes) if plan.is_level(each) else each for each in plan.processes)
        return replace(plan, processes=tuple(changed))

    def named(self, kind: str) -> dict[str, Path]:
        """The parts of a repeatable kind by their own names: `translator:French` gives {"French": path}."""
        return {name.split(":", 1)[1]: path for name, path in self.parts.items() if name.startswith(f"{kind}:")}

    def scheduler(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the base's scheduler as the bundle is drawn with them."""
        if self.few_step is None:
            return dict(settings)
        return few_step_scheduler(settings, self.few_step, bool(self.loras), str(self.base))

    def _file_problems(self) -> list[str]:
        problems = []
        if self.base_config is not None and not self.base_config.is_file():
            problems.append(f"--base-config: expected a file, found none at {self.base_config}")
        named: dict[str, Path | None] = {f"--part {name}": path for name, path in self.parts.items()}
        named |= {"--decoder": self.decoder, "--preview-decoder": self.preview_decoder}
        problems += [
            f"{option}: expected a file or folder, found none at {path}"
            for option, path in named.items()
            if path is not None and not path.exists()
        ]
        return problems
