"""What bundles of random weights are drawn with: a prompt, and a picture or a sound where one is needed."""

from typing import Any

import numpy as np

PROMPT = "a red S"


def options(system: str) -> dict[str, Any]:
    """A run's prompt and the system's own options; the picture is a gradient with a square subject, the sound noise."""
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), -1)
    mask = np.zeros((300, 300), np.uint8)
    mask[60:240, 60:240] = 255
    noise = np.random.default_rng(0).normal(0, 0.2, (200_000, 2))
    known: dict[str, dict[str, Any]] = {
        "gluegen-text": {"language": "French"},
        "elite": {"subject": picture, "mask": mask},
        "ip-adapter": {"image": picture},
        "gluegen-sound": {"prompt": None, "sound": (noise, 44_100)},
        "fastcomposer": {"subjects": [picture], "marker": "S"},
    }
    return {"prompt": PROMPT} | known.get(system, {})
