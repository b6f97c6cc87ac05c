"""What to export: a system's parts and how it is built, and the export command's options as one frozen record."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from x2i.runtime.bundle.plan import Guidance, Plan, SamplerChoice
from x2i.runtime.errors import InputError
from x2i.runtime.sampling.registry import make_sampler
from x2i.runtime.sampling.schedule import Schedule

from .errors import PlanError
from .lower.lowering import Lowering
from .to_onnx import Component


@dataclass(frozen=True, slots=True)
class Build:
    """A system read from its files: the runtime's plan, the tokenizers (file name to JSON text), and its components.

    `components` is an iterator so that a component's weights can be freed before the next one is traced.
    """

    plan: Plan
    tokenizers: dict[str, str]
    components: Iterator[Component]
    count: int


def consume(components: list[Component]) -> Iterator[Component]:
    """Yields components front to back and lets go of each, so that no more weights are held than are still needed."""
    while components:
        yield components.pop(0)


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """A system by name: the parts it takes and how it is built.

    `required` and `optional` map part names to what the part is; a name that ends in `:NAME` is repeatable.
    """

    build: Callable[["ExportPlan"], Build]
    required: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)

    def part_problems(self, parts: dict[str, Path]) -> list[str]:
        """Parts that are missing, unknown or badly named."""
        known = self.required | self.optional
        usage = "; ".join(f"{name} ({meaning})" for name, meaning in known.items()) or "no parts"
        problems = [
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
    return any(k.startswith(f"{kind}:") for k in known) and re.fullmatch(r"[\w-]+", name) is not None


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
