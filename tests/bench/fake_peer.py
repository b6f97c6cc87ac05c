"""A peer that draws its own noise, and fails, lies or stays silent where its options say so."""

import time
from collections.abc import Callable

import numpy as np
from peers.protocol import Draw, PeerJob, PeerPicture, answer


def open_peer(job: PeerJob) -> Draw:
    if reason := job.options.get("fails"):
        raise SystemExit(f"fake: {reason}")

    def draw(steps: int, tick: Callable[[], None]) -> PeerPicture:
        latents = job.start_noise() * job.options.get("scale", 1)
        for _ in range(steps - job.options.get("silent", 0)):
            time.sleep(0.001)
            tick()
        values = np.resize(latents, (job.height, job.width, 3))
        image = np.clip(128 + 40 * values, 0, 255).astype(np.uint8)
        return PeerPicture(image, None if job.options.get("blind") else latents)

    return draw


if __name__ == "__main__":
    print("a library's own chatter")
    answer(open_peer, ("numpy", "not-there"))
