"""OpenVINO GenAI's text-to-image pipeline. Options: `properties`, OpenVINO's own, by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from peers.protocol import Draw, PeerJob, PeerPicture, answer

SCHEDULERS = {"ddim": "DDIM", "euler": "EULER_DISCRETE", "lcm": "LCM"}


def open_peer(job: PeerJob) -> Draw:
    """The pipeline, reshaped to the one size and batch before it is compiled.

    Its documentation advises that for speed.
    """
    import openvino
    import openvino_genai

    class Given(openvino_genai.Generator):
        """The job's noise in place of random numbers, and behind it the draws of this project's runs of seed 0."""

        def __init__(self, noise: np.ndarray):
            super().__init__()
            self.noise = np.ascontiguousarray(noise, np.float32)
            self.draws = np.random.Generator(np.random.PCG64(0))

        def next(self) -> float:
            return float(self.draws.standard_normal(dtype=np.float32))

        def randn_tensor(self, shape: Any) -> Any:
            drawn, self.noise = self.noise, self.draws.standard_normal(self.noise.shape, np.float32)
            return openvino.Tensor(drawn.reshape(list(shape)).copy())

    pipeline = openvino_genai.Text2ImagePipeline(job.model)
    kind = getattr(openvino_genai.Scheduler.Type, SCHEDULERS[job.sampler])
    pipeline.set_scheduler(openvino_genai.Scheduler.from_config(f"{job.model}/scheduler/scheduler_config.json", kind))
    pipeline.reshape(1, job.height, job.width, job.guidance)
    pipeline.compile("CPU", INFERENCE_NUM_THREADS=job.threads, **job.options.get("properties", {}))

    def draw(steps: int, tick: Callable[[], None]) -> PeerPicture:
        seen: list[np.ndarray] = []

        def after_step(step: int, count: int, latents: Any) -> bool:
            tick()
            seen[:] = [np.array(latents.data)]
            return False

        image = pipeline.generate(
            job.prompt,
            height=job.height,
            width=job.width,
            num_inference_steps=steps,
            guidance_scale=job.guidance,
            generator=Given(job.start_noise()),
            callback=after_step,
        )
        return PeerPicture(np.array(image.data[0]), seen[0])

    return draw


if __name__ == "__main__":
    answer(open_peer, ("openvino-genai", "openvino", "openvino-tokenizers"))
