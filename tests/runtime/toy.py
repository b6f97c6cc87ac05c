"""A complete bundle and sessions without any network: numpy functions under the names of graphs."""

import json
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
from x2i.runtime.bundle.calls import GraphCall, Tensor, matches
from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.processes.latents import Decoder, LatentsProcess, SamplerChoice
from x2i.runtime.processes.segment import Segment

LANGUAGES = ("French", "German")
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "red", "apple", "pomme", "rouge", "blue"]


def tokenizer_json() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer.to_str()


def plan(segments: tuple[Segment, ...] = (Segment("denoiser", 1000, {"context": "context"}),)) -> Plan:
    return Plan(
        conditioners=(
            Conditioner(
                (
                    GraphCall(
                        "encoder",
                        {"input_ids": "input_ids", "attention_mask": "attention_mask"},
                        {"features": "features"},
                    ),
                    GraphCall("translator.{language}", {"features": "features"}, {"context": "context"}),
                ),
                (TextInput("tokenizer.json", 6, 1),),
            ),
        ),
        processes=(
            LatentsProcess(
                segments=segments,
                sampler=SamplerChoice("plms", 5, {"ddim": "ddim_compvis"}),
                decoder=Decoder("decoder", 4, 8, (48, 40), 8, "truncate"),
            ),
        ),
    )


def with_process(asked: Plan, **changes) -> Plan:
    """The plan with other fields in its one process."""
    return replace(asked, processes=(replace(asked.process, **changes),))


def toy_graph(asked: Plan, name: str, file: str = "") -> Graph:
    """A graph with the tensors that a plan asks of it; one that no call names has some."""
    call = next((one for one in asked.calls() if matches(one.graph, {name})), None)
    if call is None:
        inputs = outputs = (Tensor("x", "float32", ("batch", 4)),)
    else:
        inputs, outputs = (
            tuple(Tensor(tensor, "float32", call.shapes.get(tensor, ("batch", "size"))) for tensor in tensors)
            for tensors in (call.inputs, call.outputs)
        )
    return Graph(file or f"{name}.onnx", inputs, outputs, "fp32", Measured(1e-6, 1e-4))


def write_toy(target: Path, **changes) -> Path:
    """A bundle whose graph files hold their own names; `changes` replace fields of the manifest."""
    names = ["encoder", *(f"translator.{language}" for language in LANGUAGES), "decoder", "denoiser"]
    names = changes.pop("names", names)
    asked = changes.get("plan", plan())
    with new_bundle(target) as folder:
        (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
        for name in names:
            (folder / f"{name}.onnx").write_text(name, "utf-8")
        graphs = {name: toy_graph(asked, name) for name in names}
        fields = {"system": "toy", "plan": asked, "graphs": graphs, "files": file_records(folder)} | changes
        write_manifest(folder, Manifest(**fields))
    return target


def edit_manifest(folder: Path, edit) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text("utf-8"))
    edit(data)
    path.write_text(json.dumps(data), "utf-8")


class Sessions:
    """Numpy stand-ins for the graphs; `calls` records every call as (graph, arrays)."""

    def __init__(self):
        self.calls: list[tuple[str, dict]] = []
        self.opened: list[str] = []

    def open(self, graph: str):
        self.opened.append(graph)
        name = graph.split(".")[0].rstrip("12")

        def call(**arrays):
            self.calls.append((graph, arrays))
            return getattr(self, name)(graph, **arrays)

        names = [name for name in signature(getattr(self, name)).parameters if name != "graph"]
        call.inputs = tuple(Tensor(name, "float32", ()) for name in names)
        call.bind = lambda **fixed: partial(call, **fixed)
        return call

    def encoder(self, graph, input_ids, attention_mask):
        return {"features": (input_ids * attention_mask)[..., None].astype(np.float32)}

    def translator(self, graph, features):
        return {"context": features * (0.1 if graph.endswith("French") else 0.2)}

    def denoiser(self, graph, latents, timestep, context):
        scale = (0.1 + timestep / 1000)[:, None, None, None]
        return {"noise": np.tanh(latents * scale + context.mean((1, 2))[:, None, None, None]).astype(np.float32)}

    def decoder(self, graph, latents):
        return {"image": np.tanh(np.kron(latents[:, :3], np.ones((8, 8), np.float32)))}


def toy_pipeline(target: Path, **changes) -> tuple[Pipeline, Sessions]:
    sessions = Sessions()
    return Pipeline(open_bundle(write_toy(target, **changes)), sessions.open), sessions
