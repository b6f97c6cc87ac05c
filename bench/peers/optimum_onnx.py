"""Optimum's ONNX Runtime pipeline on the graphs that its own exporter writes."""

from peers.protocol import Draw, Job, answer
from peers.torch_pipeline import drawing, set_scheduler


def opened(job: Job) -> Draw:
    """With as many threads as the others have."""
    import torch
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    settings = SessionOptions()
    settings.intra_op_num_threads = job.threads
    pipeline = ORTStableDiffusionPipeline.from_pretrained(job.model, session_options=settings)
    set_scheduler(pipeline, job.sampler)
    return drawing(pipeline, job, torch.float32)


if __name__ == "__main__":
    answer(opened, ("optimum-onnx", "onnxruntime", "diffusers", "torch"))
