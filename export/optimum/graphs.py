"""The three graphs of Optimum's folder: their inputs and outputs, and the nodes that adapt them to a bundle's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from x2i.runtime.bundle.manifest import Graph, Precision
from x2i.runtime.commands.progress import track
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from ..errors import PlanError
from ..graphs.graph_ends import (
    external_files,
    keep_outputs,
    read_proto,
    replace_input,
    replace_output,
    unused,
    write_proto,
)
from ..proofs import check_against_proof, write_proof
from .configs import DECODER, DENOISER, GRAPH, TEXT_ENCODER

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Part:
    """One graph: its folder, inputs and output as Optimum names them, and the bundle's name of the output.

    `adapt` changes a graph's inputs to the bundle's. `example` draws inputs for such a graph: those of the original and
    those of the adapted graph for the same result.
    """

    folder: str
    inputs: tuple[str, ...]
    output: str
    name: str
    adapt: Callable[[GraphProto], None]
    example: Callable[[GraphProto], tuple[Arrays, Arrays]]

    def problems(self, graph: GraphProto, source: str) -> list[str]:
        """One line for each difference from the graph expected here, as Stable Diffusion XL's has them."""
        inputs, outputs = (tuple(value.name for value in values) for values in (graph.input, graph.output))
        problems = []
        if sorted(inputs) != sorted(self.inputs):
            problems.append(f"{source}: expected the inputs {', '.join(self.inputs)}, got {', '.join(inputs)}")
        if self.output not in outputs:
            problems.append(f"{source}: expected the output {self.output}, got {', '.join(outputs)}")
        return [f"{problem}; give a folder of Stable Diffusion v1" for problem in problems]

    def adapt_ends(self, graph: GraphProto) -> None:
        """Gives the graph our inputs and our output, all of float32 or int64."""
        self.adapt(graph)
        keep_outputs(graph, {self.output})
        (output,) = graph.output
        half = output.type.tensor_type.elem_type == TensorProto.FLOAT16
        replace_output(
            graph, self.output, _retyped(output, self.name), partial(_cast_nodes, TensorProto.FLOAT) if half else None
        )


def parts(scaling_factor: float, window: int, vocabulary: int) -> dict[str, Part]:
    """The parts by the names of our graphs. The text encoder reads prompts of `window` tokens of its `vocabulary`;
    latents arrive at the decoder as the sampler leaves them, and are divided by `scaling_factor` first."""
    return {
        "text_encoder": Part(
            TEXT_ENCODER,
            ("input_ids",),
            "last_hidden_state",
            "context",
            _adapt_text,
            partial(_text_example, window, vocabulary),
        ),
        "denoiser": Part(
            DENOISER,
            ("sample", "timestep", "encoder_hidden_states"),
            "out_sample",
            "noise",
            _adapt_denoiser,
            _denoiser_example,
        ),
        "decoder": Part(
            DECODER,
            ("latent_sample",),
            "sample",
            "image",
            partial(_adapt_decoder, np.float32(scaling_factor)),
            partial(_decoder_example, np.float32(scaling_factor)),
        ),
    }


def _adapt_text(graph: GraphProto) -> None:
    ids = _input(graph, "input_ids")
    if (kind := ids.type.tensor_type.elem_type) != TensorProto.INT64:
        replace_input(graph, "input_ids", _retyped(ids, "input_ids", TensorProto.INT64), partial(_cast_nodes, kind))


def _adapt_denoiser(graph: GraphProto) -> None:
    for old, new in (("sample", "latents"), ("encoder_hidden_states", "encoder_hidden_states")):
        _take_float(graph, old, new)
    kind, rank = _input(graph, "timestep").type.tensor_type.elem_type, len(_sizes(graph, "timestep"))
    # Ours is one per sample, all of them the same.
    first = _constant(graph, "timestep.first", np.zeros((1,) * rank, np.int64))
    batch = _input(graph, "latents").type.tensor_type.shape.dim[0].dim_param or "batch"
    ours = helper.make_tensor_value_info("timestep", TensorProto.FLOAT, [batch])

    def nodes(source: str, target: str) -> list[NodeProto]:
        chosen = helper.make_node("Gather", [source, first], [f"{target}.float"], axis=0)
        return [chosen, *_cast_nodes(kind, f"{target}.float", target)]

    replace_input(graph, "timestep", ours, nodes)


def _adapt_decoder(scaling_factor: np.float32, graph: GraphProto) -> None:
    latents = _input(graph, "latent_sample")
    factor = _constant(graph, "scaling_factor", np.asarray(scaling_factor))
    kind = latents.type.tensor_type.elem_type

    def nodes(source: str, target: str) -> list[NodeProto]:
        scaled = helper.make_node("Div", [source, factor], [f"{target}.float"])
        return [scaled, *_cast_nodes(kind, f"{target}.float", target)]

    replace_input(graph, "latent_sample", _retyped(latents, "latents"), nodes)


def _take_float(graph: GraphProto, old: str, new: str) -> None:
    value = _input(graph, old)
    kind = value.type.tensor_type.elem_type
    cast = None if kind == TensorProto.FLOAT else partial(_cast_nodes, kind)
    replace_input(graph, old, _retyped(value, new), cast)


def _text_example(window: int, vocabulary: int, graph: GraphProto) -> tuple[Arrays, Arrays]:
    ids = np.random.default_rng(4).integers(0, vocabulary, (2, window))
    return {"input_ids": ids}, {"input_ids": ids}


def _denoiser_example(graph: GraphProto) -> tuple[Arrays, Arrays]:
    random = np.random.default_rng(1)
    channels, width = _sizes(graph, "sample")[1], _sizes(graph, "encoder_hidden_states")[2]
    latents = random.standard_normal((2, channels, 16, 24), np.float32)
    context = random.standard_normal((2, 5, width), np.float32)
    shared = {"encoder_hidden_states": context}
    rank = len(_sizes(graph, "timestep"))
    own = {"sample": latents, "timestep": np.full((1,) * rank, 321, np.float32)}
    return shared | own, shared | {"latents": latents, "timestep": np.full(2, 321, np.float32)}


def _decoder_example(scaling_factor: np.float32, graph: GraphProto) -> tuple[Arrays, Arrays]:
    shape = (1, _sizes(graph, "latent_sample")[1], 8, 5)
    latents = np.random.default_rng(2).standard_normal(shape, np.float32)
    return {"latent_sample": latents / scaling_factor}, {"latents": latents}


def _constant(graph: GraphProto, name: str, value: np.ndarray) -> str:
    """Puts a constant into the graph; returns its name there."""
    name = unused(graph, name)
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _input(graph: GraphProto, name: str) -> ValueInfoProto:
    return next(value for value in graph.input if value.name == name)


def _sizes(graph: GraphProto, name: str) -> list[int]:
    """The fixed sizes of an input; 0 for those that are free."""
    return [dimension.dim_value for dimension in _input(graph, name).type.tensor_type.shape.dim]


def _retyped(value: ValueInfoProto, name: str, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    made = ValueInfoProto()
    made.CopyFrom(value)
    made.name, made.type.tensor_type.elem_type = name, kind
    return made


def _cast_nodes(kind: int, source: str, target: str) -> list[NodeProto]:
    return [helper.make_node("Cast", [source], [target], to=kind)]


GATE = 1e-4
"""Largest error against the original graph, as a share of the output's spread: sessions sum in different orders."""


EVIDENCE = "the versions `x2i doctor` prints, and Optimum's"


def write_adapted_graphs(
    folder: Path, work: Path, wanted: dict[str, Part], report: Callable[[str], None]
) -> dict[str, Graph]:
    """Writes the parts of Optimum's `folder` that are wanted into the bundle `work`, with their proofs.

    Raises PlanError for graphs of other inputs or outputs, GateError where one differs from the original.
    """
    files = {name: folder / part.folder / GRAPH for name, part in wanted.items()}
    models = {name: read_proto(file) for name, file in files.items()}
    problems = [
        problem for name, part in wanted.items() for problem in part.problems(models[name].graph, str(files[name]))
    ]
    if problems:
        raise PlanError(*problems)
    graphs = {}
    for name, part in track(wanted.items(), "adapting", unit="graph"):
        model = models.pop(name)
        precision: Precision = "fp16" if _is_half(model.graph.initializer) else "fp32"
        original, ours = part.example(model.graph)
        part.adapt_ends(model.graph)
        write_proto(model, external_files(model, files[name].parent), work / f"{name}.onnx")
        write_proof(work, name, _proof_arrays(part, files[name], original, ours))
        session = OnnxRuntimeSession(work / f"{name}.onnx")
        graphs[name] = check_against_proof(work, name, session, GATE, precision, "the original graph", EVIDENCE)
        report(f"{name}: error {graphs[name].measured.error:.1e} (gate {GATE:.0e})")
    return graphs


def _proof_arrays(part: Part, file: Path, original: Arrays, ours: Arrays) -> Arrays:
    """Our inputs, and under our name what the original graph returns for its own."""
    session = OnnxRuntimeSession(file)
    inputs = {tensor.name: original[tensor.name].astype(tensor.dtype) for tensor in session.inputs}
    return ours | {part.name: session(**inputs)[part.output].astype(np.float32)}


def _is_half(weights: list[TensorProto]) -> bool:
    halves = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in weights)
    return halves > len(weights) / 2
