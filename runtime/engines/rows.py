"""How many rows of the guidance a graph is called with: both sides, or one."""

from ..plan import Plan
from ..slots import sides_of
from ..variants import CROSS


def rows_of(plan: Plan, graph: str) -> tuple[int, ...]:
    """Those of the plan's own guidance first; a preset that guides part of the way calls its graphs with either."""
    usual = sides_of(plan.guidance.scale)
    found: set[int] = set()
    for segment in plan.segments:
        for preset in plan.presets.values():
            for variant in (variant for variant in preset.variants(segment.graph) if variant.name == graph):
                found |= {1} if CROSS in variant.takes else {usual} if preset.guided is None else {usual, 1}
    if not found or graph in (segment.graph for segment in plan.segments):
        found.add(usual)
    return tuple(sorted(found, reverse=True))
