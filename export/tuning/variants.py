"""A bundle with presets, and with the graphs that they need."""

from dataclasses import replace

from x2i.runtime.bundle import Bundle
from x2i.runtime.preset import Preset

from ..reuse.proven import with_variants


def with_presets(bundle: Bundle, presets: dict[str, Preset]) -> Bundle:
    """Writes the variants that the presets need into the bundle's folder; the manifest there is not touched.

    Raises PlanError and GateError as `with_variants` does.
    """
    plan = bundle.manifest.plan
    segments = dict.fromkeys(segment.graph for segment in plan.segments)
    wanted = [variant for preset in presets.values() for graph in segments for variant in preset.variants(graph)]
    made = with_variants(bundle, wanted)
    return Bundle(made.folder, replace(made.manifest, plan=replace(plan, presets=presets)))
