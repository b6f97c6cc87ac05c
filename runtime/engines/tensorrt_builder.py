"""Builds an engine with TensorRT-RTX or TensorRT, in a process of its own: neither can be stopped otherwise, and the
parser of the one may end the process."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..bundle.calls import Tensor
from ..errors import InputError
from ..machine import peak_memory
from . import plugin, store, tensorrt_key
from .build_request import BuildJob, BuildResult
from .gpu import first_gpu
from .key import EngineKey, Range
from .tensorrt_key import import_tensorrt, tensorrt_complaint, tensorrt_log


def build_tensorrt_engine(job: BuildJob, folder: Path) -> BuildResult:
    """Saves the engine in `folder`, unless the bundle has it. Raises InputError where the library refuses the graph."""
    start = time.perf_counter()
    tensorrt = import_tensorrt(job.library)
    kernels = _kernels(job)
    key = _key(job, tensorrt.__version__, kernels)
    if (there := store.find_engine(Path(job.engines), key)) is not None:
        return BuildResult(there.name, 0.0, 0, cached=True)
    if kernels is not None:
        plugin.register_plugin(tensorrt, kernels)
    made = folder / "engine"
    remarks = _write(tensorrt, job, kernels, made)
    seconds, peak = time.perf_counter() - start, peak_memory()
    return BuildResult(store.save_engine(folder, key, made, seconds, peak).name, seconds, peak, remarks)


def _write(tensorrt: ModuleType, job: BuildJob, kernels: Path | None, file: Path) -> tuple[str, ...]:
    """Writes the engine to a file, and returns remarks."""
    builder = tensorrt.Builder(tensorrt_log(tensorrt))
    network = _parsed(tensorrt, builder, job)
    config = builder.create_builder_config()
    # Float32 stays what it says, as in every other backend; who wants it faster lowers the precision.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    _set_targets(tensorrt, config, job.targets)
    if job.shapes:
        config.add_optimization_profile(_profile(builder, job))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        complaint = tensorrt_complaint(tensorrt)
        raise InputError(
            f"{job.name}: {tensorrt.__name__} {tensorrt.__version__} cannot build this graph: "
            f"{complaint}; {_fix(job, complaint)}"
        )
    with file.open("wb") as stream:
        stream.write(engine)
    return _remarks(tensorrt, network, job, kernels)


def _fix(job: BuildJob, complaint: str) -> str:
    table = re.search(r"Quantized constant \((\S+?)(?:\.weight)?\.int8\)", complaint)
    if job.precision.endswith("-weights") and table is not None:
        # The module above holds the tables beside it, too.
        part = table[1].rpartition(".")[0] or table[1]
        return f"lower it again with --keep {job.name}:{part}, for TensorRT takes no table of integers"
    return "choose another backend for this bundle, such as cpu"


def _key(job: BuildJob, version: str, kernels: Path | None) -> EngineKey:
    """The key of the engine that a job builds; raises InputError where TensorRT finds no GPU to build for."""
    gpu = first_gpu() if job.library == tensorrt_key.TENSORRT else None
    device = tensorrt_key.built_for(job.library, job.targets, gpu)
    options = {} if kernels is None else {plugin.OPTION: plugin.kernels_digest(kernels)}
    return EngineKey(job.name, job.digest, job.precision, job.library, version, device, job.shapes, options)


def _kernels(job: BuildJob) -> Path | None:
    """The kernels that this graph's engine will hold: none where no operator is in it, or not in float16."""
    usable = job.kernels and job.precision in plugin.PRECISIONS and plugin.has_operator(Path(job.path))
    return Path(job.kernels) if usable else None


def _parsed(tensorrt: ModuleType, builder: Any, job: BuildJob) -> Any:
    # TensorRT 10 has to be told that a graph's types are its own; what came later knows nothing else.
    typed = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = tensorrt.OnnxParser(network, tensorrt_log(tensorrt))
    if not parser.parse_from_file(job.path):
        errors = "; ".join(parser.get_error(number).desc() for number in range(parser.num_errors))
        raise InputError(
            f"{job.name}: {tensorrt.__name__} {tensorrt.__version__} cannot read this graph: {errors}; "
            "choose another backend for this bundle, such as cpu"
        )
    return network


def _set_targets(tensorrt: ModuleType, config: Any, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for number, target in enumerate(targets):
        name = target.upper().replace("_", "")
        config.set_compute_capability(getattr(tensorrt.ComputeCapability, name), number)


def _profile(builder: Any, job: BuildJob) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in job.inputs:
        profile.set_shape(tensor.name, *_shapes(tensor, job.shapes))
    return profile


def _shapes(tensor: Tensor, shapes: dict[str, Range]) -> Iterator[list[int]]:
    """The smallest, the usual and the largest shape of an input."""
    for number in range(3):
        yield [size if isinstance(size, int) else shapes[size][number] for size in tensor.shape]


def _remarks(tensorrt: ModuleType, network: Any, job: BuildJob, kernels: Path | None) -> tuple[str, ...]:
    if not plugin.has_operator(Path(job.path)):
        return ()
    if kernels is not None:
        plugged = tensorrt.LayerType.PLUGIN_V3
        nodes = sum(network.get_layer(number).type == plugged for number in range(network.num_layers))
        return (f"{nodes} attentions run as the compiled kernels",)
    why = f"kernels are for float16, this graph is {job.precision}" if job.kernels else "no --kernels given"
    return (f"attentions run as the graph spells them out: {why}",)
