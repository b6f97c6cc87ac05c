"""What bundles of random weights are drawn with: a prompt, and a picture where one is needed."""

from typing import Any

import numpy as np

PROMPT = "a red S"


def options(system: str) -> dict[str, Any]:
    """A system's own options of a run, beside the prompt; the picture is a gradient with a square subject."""
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), -1)
    mask = np.zeros((300, 300), np.uint8)
    mask[60:240, 60:240] = 255
    known: dict[str, dict[str, Any]] = {
        "gluegen-text": {"language": "French"},
        "elite": {"subject": picture, "mask": mask},
        "ip-adapter": {"image": picture},
        "fastcomposer": {"subjects": [picture], "marker": "S"},
    }
    return known.get(system, {})
