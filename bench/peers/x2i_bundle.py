"""This project's runtime on a bundle.

Options: `backend`; `attention` on the CPU; `preset` where the bundle has one of that name, and `own_loop` where a whole
picture takes the preset's own sampler and steps; `stand_ins` draws the bundle's own stand-ins, such as a subject.
"""

from collections.abc import Callable

import numpy as np
from x2i.runtime import load
from x2i.runtime.inputs.registry import RunOptions
from x2i.runtime.output import to_images
from x2i.runtime.processes.latents import Decoder
from x2i.runtime.profiling.job import stand_ins

from peers.protocol import Draw, PeerJob, PeerPicture, answer


def open_peer(job: PeerJob) -> Draw:
    """The bundle's pipeline, with the same calls as `Pipeline.__call__` makes and a tick behind every step."""
    preset, own = job.options.get("preset"), job.options.get("own_loop", False)
    attention = job.options.get("attention")
    pipeline = load(job.model, job.options["backend"], job.threads, preset=preset, attention=attention)
    decoder = pipeline.bundle.manifest.plan.latents.decoder
    assert isinstance(decoder, Decoder), "a bundle that decodes latents"

    def draw(steps: int, tick: Callable[[], None]) -> PeerPicture:
        latents = np.empty(0)
        run: RunOptions = {
            "guidance": job.guidance,
            "noise": job.start_noise(),
            "size": (job.height, job.width),
        }
        if not own or steps != job.picture_steps:
            run |= {"steps": steps, "sampler": job.sampler}
        given = {"prompt": job.prompt} | (stand_ins(pipeline.bundle) if job.options.get("stand_ins") else {})
        walk = pipeline.steps(**given, **run)
        for step in walk:
            tick()
            latents = step.state
        decoded = pipeline.session(decoder.graph)(latents=latents)["image"]
        return PeerPicture(np.asarray(to_images(decoded, decoder.to_uint8)[0]), latents)

    return draw


if __name__ == "__main__":
    answer(open_peer, ("x2i-edge", "onnxruntime", "openvino", "numpy"))
