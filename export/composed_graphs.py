"""A bundle's graphs with Optimum's inputs and outputs."""

from functools import partial
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, compose, helper
from x2i.runtime.bundle import Bundle

from .graph_ends import external_files, read_graph, replace_input, replace_output, write_graph

PREFIX = "projection/"


def write_text_encoder(bundle: Bundle, target: Path) -> None:
    """`input_ids` [B, T] to `last_hidden_state`."""
    _write(bundle, "text_encoder", target, {}, {"context": "last_hidden_state"})


def write_decoder(bundle: Bundle, target: Path) -> None:
    """`latent_sample`, which the graph scales, to `sample`."""
    _write(bundle, "decoder", target, {"latents": "latent_sample"}, {"image": "sample"})


def write_denoiser(bundle: Bundle, target: Path) -> None:
    """`sample`, the scalar `timestep` and `encoder_hidden_states` to `out_sample`: the projection and the denoiser."""
    files = {name: bundle.path(bundle.manifest.graphs[name].file) for name in ("projection", "denoiser")}
    projection, denoiser = (read_graph(file) for file in files.values())
    data = external_files(projection, files["projection"].parent) | external_files(denoiser, files["denoiser"].parent)
    merged = _merged(projection, denoiser)
    graph = merged.graph
    replace_input(graph, f"{PREFIX}context", _renamed(merged, f"{PREFIX}context", "encoder_hidden_states"))
    replace_input(graph, "latents", _renamed(merged, "latents", "sample"))
    scalar = helper.make_tensor_value_info("timestep", TensorProto.FLOAT, [])
    replace_input(graph, "timestep", scalar, partial(_for_every_sample, "sample"))
    replace_output(graph, "noise", _renamed(merged, "noise", "out_sample"))
    order = ("sample", "timestep", "encoder_hidden_states")
    inputs = sorted(graph.input, key=lambda value: order.index(value.name))
    del graph.input[:]
    graph.input.extend(inputs)
    _save(merged, data, target)


def _merged(projection: ModelProto, denoiser: ModelProto) -> ModelProto:
    """The projection's outputs joined to the denoiser's inputs of the same names."""
    joined = [(value.name, value.name) for value in projection.graph.output]
    graph = compose.merge_graphs(projection.graph, denoiser.graph, joined, prefix1=PREFIX)
    graph.name = denoiser.graph.name
    versions = {(one.domain, one.version): one for model in (projection, denoiser) for one in model.opset_import}
    return helper.make_model(
        graph,
        ir_version=max(projection.ir_version, denoiser.ir_version),
        opset_imports=list(versions.values()),
        functions=[*projection.functions, *denoiser.functions],
    )


def _for_every_sample(samples: str, given: str, wanted: str) -> list[NodeProto]:
    """A scalar to one number per sample."""
    count = f"{wanted}.count"
    return [
        helper.make_node("Shape", [samples], [count], start=0, end=1),
        helper.make_node("Expand", [given, count], [wanted]),
    ]


def _write(bundle: Bundle, name: str, target: Path, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    file = bundle.path(bundle.manifest.graphs[name].file)
    model = read_graph(file)
    for old, new in inputs.items():
        replace_input(model.graph, old, _renamed(model, old, new))
    for old, new in outputs.items():
        replace_output(model.graph, old, _renamed(model, old, new))
    _save(model, external_files(model, file.parent), target)


def _save(model: ModelProto, data: dict[str, Path], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, data, target)


def _renamed(model: ModelProto, old: str, new: str) -> onnx.ValueInfoProto:
    """The description of an input or output under another name."""
    made = onnx.ValueInfoProto()
    made.CopyFrom(next(value for value in (*model.graph.input, *model.graph.output) if value.name == old))
    made.name = new
    return made
