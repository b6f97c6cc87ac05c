"""The options of lowering, and which precision they mean for every graph of a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast, get_args

from x2i.runtime.bundle.manifest import Graph, Precision
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.inputs.option import is_count, short
from x2i.runtime.inputs.sampling import MOST_PIXELS, MOST_STEPS

from ..components.projection import KEYS, LOCAL_KEYS
from ..errors import PlanError
from ..judge import judge_problems
from ..precision.int8_layers import level_problems

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
WHOLE = ""
"""The name that stands for the bundle among those of graphs."""
CALIBRATED = ("int8", "int8+fp16")
_OF_ROLE: dict[str, dict[str, Precision]] = {
    "fp32": {},
    "fp16": {"denoiser": "fp16", "decoder": "fp16", "encoder": "fp16"},
    "bf16": {"decoder": "bf16"},
    "int8": {"denoiser": "int8"},
    "int8+fp16": {"denoiser": "int8+fp16", "decoder": "fp16", "encoder": "fp16"},
    "int8-weights": {"encoder": "int8-weights"},
    "int4-weights": {"encoder": "int4-weights"},
}
"""What a bundle's precision means for its graphs by role; the others stay fp32. Projections always do, since every step
of the loop reads their outputs."""


def choose_precisions(plan: Plan, graphs: Mapping[str, Graph], wanted: Mapping[str, str]) -> dict[str, Precision]:
    """The precision of every graph; `wanted` maps graph names or patterns (`translator.*`), and "" for the bundle.

    Raises PlanError with one line per unknown precision, unknown graph, and precision that does not fit a graph.
    """
    problems = [
        f"--precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}" + (f" for {name}" if name else "")
        for name, precision in wanted.items()
        if precision not in PRECISIONS
    ]
    problems += [
        f"--precision {name}: expected a graph of the bundle, one of {', '.join(graphs)}"
        for name in wanted
        if name and not any(fnmatchcase(graph, name) for graph in graphs)
    ]
    if problems:
        raise PlanError(*problems)
    chosen = {name: _of_graph(name, _role(name, graph, plan), wanted) for name, graph in graphs.items()}
    wrong = [
        f"--precision {name}={precision}: expected a denoiser, which alone is calibrated; choose fp16 or int8-weights"
        for name, precision in chosen.items()
        if precision in CALIBRATED and _role(name, graphs[name], plan) != "denoiser"
    ]
    if wrong:
        raise PlanError(*wrong)
    return chosen


def _of_graph(name: str, role: str, wanted: Mapping[str, str]) -> Precision:
    """The last that names the graph, else what the bundle's means for its role."""
    named = [precision for pattern, precision in wanted.items() if pattern and fnmatchcase(name, pattern)]
    return cast(Precision, named[-1]) if named else _OF_ROLE[wanted.get(WHOLE, "fp32")].get(role, "fp32")


def _role(name: str, graph: Graph, plan: Plan) -> str:
    if name in plan.denoisers():
        return "denoiser"
    if any(name in process.tail_graphs() for process in plan.processes) or name in plan.start_graphs():
        # The VAE's two halves are lowered alike.
        return "decoder"
    projects = any(tensor.name.startswith((f"{KEYS}.", f"{LOCAL_KEYS}.")) for tensor in graph.outputs)
    return "projection" if projects else "encoder"


@dataclass(frozen=True, slots=True)
class Lowering:
    """How to lower a bundle's precision, and how it is judged.

    `precision` maps graph names or patterns to precisions, "" stands for the bundle. `level` says which layers int8
    takes; `keep` names layers and parts that stay as they are. With `quality` the denoiser's most damaged layers are
    put back until the relative L2 of its noise is at most that. `calibration` is a file of runs, one JSON object per
    line; `steps` and `size` are those of runs that nobody spelled out: the calibration's, and the gate's. `accept` goes
    on where the gate fails. `judge` names an installed judge, which draws
    and scores runs of its own.
    """

    precision: Mapping[str, str] = field(default_factory=dict)
    level: float = 3
    keep: tuple[str, ...] = ()
    quality: float | None = None
    calibration: Path | None = None
    seed: int = 0
    steps: int | None = None
    size: tuple[int, int] | None = None
    judge: str | None = None
    accept: bool = False

    def problems(self) -> list[str]:
        """What can be told before there is a bundle, one line each."""
        found = [
            f"--precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}"
            for precision in self.precision.values()
            if precision not in PRECISIONS
        ]
        found += level_problems(self.level)
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            found.append(f"--calibration-seed: expected a whole number from 0 to 2**63 - 1, got {short(self.seed)}")
        if self.steps is not None and not is_count(self.steps, MOST_STEPS):
            found.append(f"--trial-steps: expected a whole number from 1 to {MOST_STEPS}, got {short(self.steps)}")
        if self.size is not None and not all(is_count(side, MOST_PIXELS) for side in self.size):
            found.append(f"--trial-size: expected at most {MOST_PIXELS} pixels a side, got {short(self.size)}")
        if self.quality is not None and not 0 < self.quality < 1:
            found.append(f"--quality: expected a relative error between 0 and 1, got {self.quality:g}")
        if self.calibration is not None and not self.calibration.is_file():
            found.append(f"--calibration: expected a file, one JSON object a line, found none at {self.calibration}")
        return found + judge_problems(self.judge)

    @property
    def lowers(self) -> bool:
        """Whether anything but fp32 is asked."""
        return any(precision != "fp32" for precision in self.precision.values())
