"""Optimum's ONNX Runtime pipeline on the graphs that its own exporter writes."""

from peers.diffusers_pipeline import draw_with, set_scheduler
from peers.protocol import Draw, PeerJob, answer


def open_peer(job: PeerJob) -> Draw:
    """The pipeline of the folder, on as many threads as the others have."""
    import torch
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    settings = SessionOptions()
    settings.intra_op_num_threads = job.threads
    pipeline = ORTStableDiffusionPipeline.from_pretrained(job.model, session_options=settings)
    set_scheduler(pipeline, job.sampler)
    return draw_with(pipeline, job, torch.float32)


if __name__ == "__main__":
    answer(open_peer, ("optimum-onnx", "onnxruntime", "diffusers", "torch"))
