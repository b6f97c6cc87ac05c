"""The export command's options as one frozen record."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from x2i.runtime.errors import InputError
from x2i.runtime.plan import Guidance, Plan, SamplerChoice
from x2i.runtime.samplers import Schedule, make_sampler

from .errors import PlanError
from .lowering import Lowering
from .systems.system import SystemSpec


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export, from which files, to where.

    `base` is a diffusers folder, a hub name, or a CompVis checkpoint; `parts` maps the system's part names (such as
    `encoder` or `translator:French`) to files; `random_weights` names a variant that stands for all of them.
    `sampler`, `steps` and `guidance` replace the system's own defaults in the bundle; `lowering` is the precision.
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

    def validate(self, systems: dict[str, SystemSpec]) -> None:
        """Raises PlanError with one line per problem, before anything is read."""
        if self.system not in systems:
            raise PlanError(f"system: expected one of {', '.join(systems)}, got {self.system!r}")
        problems = []
        if self.out.exists():
            problems.append(f"{self.out}: expected a new folder, but it exists; choose another name or remove it first")
        if self.random_weights is None:
            problems += self._source_problems(systems[self.system])
        elif self.base or self.parts or self.base_config:
            problems.append("--random-weights: stands for all weights; leave out --base, --base-config and --part")
        problems += self._default_problems() + self.lowering.problems()
        if problems:
            raise PlanError(*problems)

    def with_defaults(self, plan: Plan) -> Plan:
        """The runtime's plan with this export's sampling defaults."""
        sampler = SamplerChoice(
            self.sampler or plan.sampler.name, self.steps or plan.sampler.steps, plan.sampler.aliases
        )
        guidance = plan.guidance if self.guidance is None else Guidance(self.guidance)
        return replace(plan, sampler=sampler, guidance=guidance)

    def named(self, kind: str) -> dict[str, Path]:
        """The parts of a repeatable kind by their own names: `translator:French` gives {"French": path}."""
        return {name.split(":", 1)[1]: path for name, path in self.parts.items() if name.startswith(f"{kind}:")}

    def _default_problems(self) -> list[str]:
        problems = []
        if self.guidance is not None and not math.isfinite(self.guidance):
            problems.append(f"--guidance: expected a finite number, got {self.guidance}")
        try:
            make_sampler(self.sampler or "plms", Schedule(), 50 if self.steps is None else self.steps)
        except InputError as error:
            problems += error.problems
        return problems

    def _source_problems(self, system: SystemSpec) -> list[str]:
        problems = []
        if self.base is None:
            problems.append("--base: expected a diffusers folder, a hub name or a CompVis checkpoint, got nothing")
        if self.base_config is not None and not self.base_config.is_file():
            problems.append(f"--base-config: expected a file, found none at {self.base_config}")
        problems += system.part_problems(self.parts)
        problems += [
            f"--part {name}: expected a file or folder, found none at {path}"
            for name, path in self.parts.items()
            if not path.exists()
        ]
        return problems
