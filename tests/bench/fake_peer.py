"""A peer that draws its own noise, and fails, lies or stays silent where its options say so."""

import time
from collections.abc import Callable

import numpy as np
from peers.protocol import Draw, Drawn, Job, answer


def opened(job: Job) -> Draw:
    if reason := job.options.get("fails"):
        raise SystemExit(f"fake: {reason}")

    def draw(steps: int, tick: Callable[[], None]) -> Drawn:
        latents = job.start_noise() * job.options.get("scale", 1)
        for _ in range(steps - job.options.get("silent", 0)):
            time.sleep(0.001)
            tick()
        values = np.resize(latents, (job.height, job.width, 3))
        return Drawn(np.clip(128 + 40 * values, 0, 255).astype(np.uint8), None if job.options.get("blind") else latents)

    return draw


if __name__ == "__main__":
    print("a library's own chatter")
    answer(opened, ("numpy", "not-there"))
