"""The runs that int8 is calibrated on and that the gate compares, where nobody spelled them out."""

from itertools import cycle
from typing import Any

import numpy as np
from x2i.runtime.manifest import Manifest

from .emoji_asks import asks
from .gate_cases import STEPS, default_cases, start_noise
from .lowering import Lowering

CALIBRATED, HELD_OUT, COMPARED = 6, 2, 4
JUDGED = 16
"""Of a judge's drawings, which are small and quick, more are calibrated on: a sixteenth, an eighth, a fourth."""
SEEDS = 1000
"""Where the seeds of the calibration's runs begin: the gate's are others."""


def calibration_runs(manifest: Manifest, lowering: Lowering) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Options of the runs that set ranges and of those kept apart to measure with."""
    if lowering.judge is not None:
        known = [ask.options | {"seed": SEEDS + number} for number, ask in enumerate(asks(manifest.system))]
        steps = {} if lowering.steps is None else {"steps": lowering.steps}
        runs = [run | steps for run in known]
        return runs[:: len(runs) // JUDGED], runs[1 :: len(runs) // HELD_OUT][:HELD_OUT]
    size = {} if lowering.size is None else {"size": lowering.size}
    found = default_cases(manifest, lowering.steps or STEPS, lowering.size, CALIBRATED + HELD_OUT)
    # Their noise is the gate's; these draw their own. A bundle of few languages hears each more than once.
    runs = [
        {name: value for name, value in run.items() if name != "noise"} | size | {"seed": SEEDS + number}
        for number, run in zip(range(CALIBRATED + HELD_OUT), cycle(found), strict=False)
    ]
    return runs[:-HELD_OUT], runs[-HELD_OUT:]


def compared_runs(manifest: Manifest, lowering: Lowering) -> list[dict[str, Any]]:
    """Options of the gate's runs, each with its start noise, float32 [1, C, h, w]."""
    if lowering.judge is None:
        return default_cases(manifest, lowering.steps or STEPS, lowering.size)
    known = asks(manifest.system)
    chosen = [known[number].options for number in np.linspace(0, len(known) - 1, COMPARED).astype(int)]
    steps = {} if lowering.steps is None else {"steps": lowering.steps}
    return [run | steps | {"noise": start_noise(manifest.plan.decoder, run["seed"], lowering.size)} for run in chosen]
