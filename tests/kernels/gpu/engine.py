"""A program: builds an engine from an ONNX file, and runs it where asked to.

`python engine.py MODULE MODEL PLAN [--kernels DIR] [--run TENSORS]`: MODULE is tensorrt_rtx or tensorrt. With --kernels
the plugins are registered. --run reads the inputs of one call from TENSORS and puts the output in their place; it needs
a CUDA device. A process of its own, because registering cannot be undone and the parser of TensorRT-RTX may abort.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from x2i.kernels.gpu import cubins
from x2i.kernels.gpu_ops import register_ops


def build(trt: Any, model: Path) -> bytes:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.read_bytes()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        # Any number of samples, and 1 to 300 of whatever else the model leaves open.
        shapes = [[size if size > 0 else open_size for size in tensor.shape] for open_size in (1, 77, 300)]
        profile.set_shape(tensor.name, *([batch, *shape[1:]] for batch, shape in zip((1, 2, 4), shapes, strict=True)))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return bytes(plan)


def execute(trt: Any, plan: bytes, tensors: Path) -> None:
    import torch

    held = {name: tensor.cuda() for name, tensor in torch.load(tensors, weights_only=True).items()}
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    for name, tensor in held.items():
        context.set_input_shape(name, tuple(tensor.shape))
    held["output"] = torch.full_like(held["query"], torch.nan)
    for name, tensor in held.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.Stream()
    assert context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    torch.save(held["output"].cpu(), tensors)


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("module")
    for name in ("model", "plan", "--kernels", "--run"):
        words.add_argument(name, type=Path)
    given = words.parse_args()
    trt = import_module(given.module)
    if given.kernels:
        register_ops(trt, cubins.read_cubins(given.kernels))
    plan = build(trt, given.model)
    given.plan.write_bytes(plan)
    if given.run:
        execute(trt, plan, given.run)


if __name__ == "__main__":
    main()
