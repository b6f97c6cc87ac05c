"""Writes a plain Stable Diffusion bundle as the folder that Optimum's ONNX Runtime pipelines load."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, compose, helper
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.bundle.writer import new_folder
from x2i.runtime.inputs.text.learned import LearnedInput
from x2i.runtime.text_bundle import OF_TEXT

from ..errors import PlanError
from ..graphs.graph_ends import (
    close_input,
    external_files,
    read_proto,
    replace_input,
    replace_output,
    unused,
    write_proto,
)
from ..sampling.schedulers import NEAREST
from .configs import DECODER, DENOISER, GRAPH, TEXT_ENCODER, configurations, tokenizer_files

PREFIX = "projection/"


def write_text_encoder(bundle: Bundle, target: Path) -> None:
    """`input_ids` [B, T] to `last_hidden_state`; where the bundle takes learned words, there are none."""
    file = bundle.path(bundle.manifest.graphs["text_encoder"].file)
    model = read_proto(file)
    data = external_files(model, file.parent)
    if (words := bundle.manifest.plan.find(LearnedInput)) is not None:
        _close_words(model.graph, words.width)
    replace_output(model.graph, "context", _renamed(model, "context", "last_hidden_state"))
    _save(model, data, target)


def _close_words(graph: GraphProto, width: int) -> None:
    """In the place of a call's learned words a row of zeros for every prompt, which no token reads."""
    row, inside, count = (unused(graph, name) for name in ("learned.row", "learned.inside", "learned.count"))
    zeros = np.zeros((1, 1, width), np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(zeros, row))
    sizes = unused(graph, "learned.sizes")
    ones = unused(graph, "learned.ones")
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.int64), ones))
    close_input(
        graph,
        "learned",
        inside,
        [
            helper.make_node("Shape", ["input_ids"], [count], start=0, end=1),
            helper.make_node("Concat", [count, ones], [sizes], axis=0),
            helper.make_node("Expand", [row, sizes], [inside]),
        ],
    )


def write_decoder(bundle: Bundle, target: Path) -> None:
    """`latent_sample`, which the graph scales, to `sample`."""
    _write(bundle, "decoder", target, {"latents": "latent_sample"}, {"image": "sample"})


def write_denoiser(bundle: Bundle, target: Path) -> None:
    """`sample`, the scalar `timestep` and `encoder_hidden_states` to `out_sample`: the projection and the denoiser."""
    files = {name: bundle.path(bundle.manifest.graphs[name].file) for name in ("projection", "denoiser")}
    projection, denoiser = (read_proto(file) for file in files.values())
    data = external_files(projection, files["projection"].parent) | external_files(denoiser, files["denoiser"].parent)
    merged = _merge_graphs(projection, denoiser)
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


def _merge_graphs(projection: ModelProto, denoiser: ModelProto) -> ModelProto:
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


def _for_every_sample(samples: str, scalar: str, target: str) -> list[NodeProto]:
    """A scalar to one number per sample."""
    count = f"{target}.count"
    return [
        helper.make_node("Shape", [samples], [count], start=0, end=1),
        helper.make_node("Expand", [scalar, count], [target]),
    ]


def _write(bundle: Bundle, name: str, target: Path, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    file = bundle.path(bundle.manifest.graphs[name].file)
    model = read_proto(file)
    for old, new in inputs.items():
        replace_input(model.graph, old, _renamed(model, old, new))
    for old, new in outputs.items():
        replace_output(model.graph, old, _renamed(model, old, new))
    _save(model, external_files(model, file.parent), target)


def _save(model: ModelProto, data: dict[str, Path], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_proto(model, data, target)


def _renamed(model: ModelProto, old: str, new: str) -> onnx.ValueInfoProto:
    """The description of an input or output under another name."""
    made = onnx.ValueInfoProto()
    made.CopyFrom(next(value for value in (*model.graph.input, *model.graph.output) if value.name == old))
    made.name = new
    return made


STAGES = ("text_encoder", "projection")


def export_folder(bundle: Path, out: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Writes the new folder `out`: the bundle's graphs with Optimum's inputs and outputs, and their configurations.

    The projection and the denoiser become one graph, which projects the prompt in every step. Raises InputError for a
    folder that is no bundle or an `out` that exists, PlanError for a bundle that a plain pipeline cannot run; then
    nothing is left behind.
    """
    opened = open_bundle(bundle)
    plan = opened.manifest.plan
    if problems := _problems(plan):
        raise PlanError(*problems)
    with new_folder(out) as work:
        for name, content in configurations(opened.manifest).items():
            _write_json(work / name, content)
        for name, text in tokenizer_files(opened).items():
            (work / "tokenizer").mkdir(exist_ok=True)
            (work / "tokenizer" / name).write_text(text, encoding="utf-8")
        write_text_encoder(opened, work / TEXT_ENCODER / GRAPH)
        write_denoiser(opened, work / DENOISER / GRAPH)
        write_decoder(opened, work / DECODER / GRAPH)
    if (name := plan.latents.sampler.name) in NEAREST:
        report(f"scheduler: {NEAREST[name]} is the nearest to {name}, and not the same")
    report(f"{out}: ORTStableDiffusionPipeline.from_pretrained({str(out)!r})")


def _problems(plan: Plan) -> list[str]:
    """What a plain text-to-image pipeline does not know."""
    # Its folder has no place for the encoder of a start, which its text-to-image pipeline does without.
    needed = plan.needed_graphs()
    stages = [stage.graph for each in plan.conditioners for stage in each.stages if stage.graph in needed]
    kinds = {type(each) for each in plan.inputs()}
    reads_text_alone = kinds <= set(OF_TEXT)
    if tuple(stages) == STAGES and reads_text_alone and plan.walks_latents and len(plan.process.segments) == 1:
        embedded = "bundle: expected a denoiser that is guided by two calls, got one that reads its guidance scale"
        return [*_prompt_problems(plan), *([embedded] if plan.process.guidance.rule == "embedded" else [])]
    return [
        "bundle: expected plain Stable Diffusion as `x2i export sd` writes it, got one that runs "
        f"{', '.join(plan.graphs())}; Optimum has no pipeline for it"
    ]


def _prompt_problems(plan: Plan) -> Iterator[str]:
    """Optimum's pipeline hands the text encoder one prompt after the other, and its ids alone."""
    conditioner = next(each for each in plan.conditioners if each.text is not None)
    if "attention_mask" in conditioner.stages[0].inputs:
        yield "bundle: expected a text encoder that reads ids alone, got one that reads the mask of the padding, too"
    if conditioner.text is not None and conditioner.text.clip_skip:
        yield (
            "bundle: expected a text encoder that reads both prompts alike, got one whose prompt leaves out "
            f"{conditioner.text.clip_skip} layers; export without --clip-skip"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
