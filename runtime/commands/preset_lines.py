"""A preset in words: what it leaves out, and what was measured."""

from collections.abc import Iterator

from ..preset import Preset, Tuned
from .gate_lines import closeness_text


def preset_lines(name: str, preset: Preset) -> list[str]:
    """One line of what the preset does, and one of what it gained and cost."""
    lines = [f"preset {name}: {', '.join(differences(preset)) or 'the plain loop'}"]
    return lines + ([] if preset.tuned is None else [f"  {line}" for line in _tuned(preset.tuned)])


def differences(preset: Preset) -> Iterator[str]:
    if preset.sampler is not None or preset.steps is not None:
        yield " ".join(filter(None, [preset.sampler, f"{preset.steps} steps" if preset.steps else ""]))
    if preset.every > 1:
        yield f"one call of {preset.every} in full, the others from skip connection {preset.depth} on"
    if preset.guided is not None:
        yield f"guidance from timestep {preset.guided[0]:g} to {preset.guided[1]:g}"
    if preset.frozen_from is not None:
        yield f"cross-attention frozen and no guidance from timestep {preset.frozen_from:g} on"
    if preset.thinned > 1:
        yield f"keys and values of every {preset.thinned}. row and column in the largest self-attention"
    if preset.delay is not None:
        yield f"the subjects from {preset.delay:.0%} of the run on"


def _tuned(tuned: Tuned) -> Iterator[str]:
    yield (
        f"{tuned.seconds:.2f} s a run, {tuned.plain_seconds:.2f} s in {tuned.plain} "
        f"({tuned.plain_seconds / tuned.seconds:.1f}x), on {tuned.where}"
    )
    for number, closeness in enumerate(tuned.measured):
        yield f"run {number}: {closeness_text(closeness)}"
    if tuned.judged is not None:
        yield f"judge: {tuned.judged.lost:.1f} points lost over {tuned.judged.drawings} drawings"
