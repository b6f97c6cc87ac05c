"""What `manifest.json` says of a bundle; every field is plain JSON."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from msgspec import Meta

from ..gate.record import Gate
from ..inputs.option import Option
from ..inputs.registry import input_options, run_options
from ..inputs.sampling import LATENTS_OPTIONS
from ..inputs.text.items import ItemsInput
from ..inputs.text.prompt import TextInput
from ..samplers.registry import SAMPLERS
from .calls import PlannedCall, Tensor, expand_wildcards, matches, shapes_agree
from .plan import Plan
from .records import Amount, Bytes, Sha256, encode

REVISION = 10
"""1 had texts only; 2 knows pictures, placeholder words and a second attention; 3 knows markers, delays, sounds and a
mix; 4 knows precisions, kept parts and the gate; 5 knows presets; 6 knows
samplers' settings, predictions, grey pictures and skipped layers; 7 knows processes, and tokens among them; 8 knows
starts from a picture, LoRAs, learned words and few steps; 9 knows painted words, vectors, pixels without a decoder, and
stages with options of their own; 10 knows experts, and words painted into several of them. Older revisions are read."""
FILE_NAME = "manifest.json"
LONGEST_NAME = 200
"""Characters of a file's name inside the bundle."""
GRAPH_NAME = r"\w[\w.+() -]{0,119}"
"""Engines are named after graphs."""
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8+fp16", "int8-weights", "int4-weights"]
"""`bf16` is stored in float32, and may be computed in bfloat16 where the CPU has it. `int8` is explicit: QuantizeLinear
and DequantizeLinear in the graph, the rest of it float32, or float16 where it says so. `-weights` are stored in blocks
and computed with in float32."""
PromptNeed = Literal["required", "optional", "none"]
"""Whether a prompt is read."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Error of the graph against fp32 torch on the stored proof, and the gate it had to pass.

    `error` is the largest absolute difference divided by the standard deviation of torch's output.
    """

    error: Amount
    gate: Amount


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX file, its external data, its tensors, and its proof: inputs and fp32 torch outputs as `.npy` files.

    `kept` names the parts that stayed in float32 where the precision is lower.
    """

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: Precision
    measured: Measured
    data: tuple[str, ...] = ()
    proof: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


def graph_files(graphs: Iterable[Graph], proofs: bool = True) -> set[str]:
    """The names of the files of graphs, with or without those of their proofs."""
    return {file for graph in graphs for file in (graph.file, *graph.data, *(graph.proof.values() if proofs else ()))}


@dataclass(frozen=True, slots=True)
class File:
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    bytes: Bytes
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint the bundle was made from. Folders have the digest of their sorted file digests."""

    part: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bundle's table of contents. `producer` maps package names to the versions that made it; `gate` says how close
    its runs are to those of fp32, where its precision is lower."""

    system: str
    plan: Plan
    graphs: dict[str, Graph]
    files: dict[str, File]
    sources: tuple[Source, ...] = ()
    licences: tuple[str, ...] = ()
    producer: dict[str, str] = field(default_factory=dict)
    gate: Gate | None = None
    revision: Annotated[int, Meta(ge=1)] = REVISION

    def as_json(self) -> dict[str, Any]:
        """What the file holds; its revision is told whichever it is."""
        return {"revision": self.revision} | encode(self)

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that the bundle has translators for, none where a caller does not choose one."""
        patterns = (name for name in self.plan.graphs() if "{language}" in name)
        return tuple(sorted({word for name in patterns for word in matches(name, set(self.graphs))}))

    @property
    def prompt_need(self) -> PromptNeed:
        """Whether it reads a prompt."""
        text = self.plan.find(TextInput)
        if text is None:
            return "none" if self.plan.find(ItemsInput) is None else "optional"
        return "optional" if text.optional else "required"

    def options(self) -> dict[str, Option]:
        """The options that a run of it may be given, by name, in the order in which people read them. Words that only
        the bundle knows, such as its languages, are choices."""
        plan = self.plan
        left_out = input_options() - plan.options()
        left_out |= {"language", "negative"} if self.prompt_need == "none" else set()
        left_out |= set() if plan.walks_latents else {option.name for option in LATENTS_OPTIONS}
        left_out |= {"size"} if plan.process.canvas.fixed else set()
        left_out |= {"guidance"} if plan.main.guidance.fixed else set()
        choices = {"language": self.languages, "preset": tuple(plan.presets), "sampler": tuple(SAMPLERS)}
        left_out |= {name for name, words in choices.items() if not words}
        return {
            name: replace(option, form="choice", choices=choices[name]) if name in choices else option
            for name, option in run_options().items()
            if name not in left_out
        }

    def without(self, names: Collection[str], proofs: bool = True) -> "Manifest":
        """The same without these graphs and the files that they alone have, of which `proofs` may stay."""
        graphs = {name: graph for name, graph in self.graphs.items() if name not in names}
        dropped = graph_files(self.graphs.values(), proofs) - graph_files(graphs.values(), proofs)
        return replace(self, graphs=graphs, files={name: f for name, f in self.files.items() if name not in dropped})

    def problems(self) -> list[str]:
        """What does not fit together inside the manifest."""
        named = self.plan.tokenizers()
        named += [name for graph in self.graphs.values() for name in (graph.file, *graph.data, *graph.proof.values())]
        named += self.gate.files() if self.gate is not None else []
        missing = [
            f"manifest: {name} is used but has no digest under 'files'"
            for name in dict.fromkeys(named)
            if name not in self.files
        ]
        found = [*missing, *_name_problems(self), *self.plan.problems(set(self.graphs))]
        if self.gate is not None and len(self.gate.cases) != len(self.gate.measured):
            found.append(f"gate: expected {len(self.gate.cases)} measured cases, got {len(self.gate.measured)}")
        found += [] if self.gate is None else _case_problems(self.gate, self.plan)
        # What the plan asks of graphs that are not there is told already.
        return found or [problem for call in self.plan.calls() for problem in _call_problems(call, self.graphs)]


def _case_problems(gate: Gate, plan: Plan) -> list[str]:
    """Cases that lack what a run of the plan is compared by."""
    needed = ("noise", "latents", "picture") if plan.processes and plan.walks_latents else ("states",)
    return [
        f"gate.cases[{number}]: missing key {name!r}"
        for number, case in enumerate(gate.cases)
        for name in needed
        if getattr(case, name) is None
    ]


OF_THE_PROCESS = ("segments", "sampler", "decoder", "schedule", "guidance")
"""What stood beside a plan's conditioners before revision 7, when every plan walked latents."""


def in_this_revision(data: Any) -> Any:
    """The JSON of an older manifest as this revision writes it; what is no manifest is left as it is."""
    plan = data.get("plan") if isinstance(data, dict) else None
    revision = data.get("revision", REVISION) if isinstance(data, dict) else None
    if not isinstance(plan, dict) or not isinstance(revision, int):
        return data
    paint = plan.get("paint")
    if revision == 9 and isinstance(paint, dict) and "graph" in paint:
        own = {key: paint[key] for key in ("graph", "layers") if key in paint}
        kept = {key: value for key, value in paint.items() if key not in own}
        return data | {"plan": plan | {"paint": kept | {"graphs": [own]}}}
    if revision >= 7 or "processes" in plan:
        return data
    process = {"kind": "latents"} | {key: plan[key] for key in OF_THE_PROCESS if key in plan}
    kept = {key: value for key, value in plan.items() if key not in OF_THE_PROCESS}
    return data | {"plan": kept | {"processes": [process]}}


def alike_but_for_case(names: Iterable[str]) -> list[list[str]]:
    """Names of which a disk of Windows or macOS holds only one, together."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    return [each for each in alike.values() if len(each) > 1]


def _name_problems(manifest: Manifest) -> Iterator[str]:
    """Names that are no plain file's, or no graph's, of which files are named."""
    for name in manifest.files:
        path = PurePosixPath(name)
        plain = name.isprintable() and "\\" not in name and len(name) <= LONGEST_NAME and path.as_posix() == name
        if not plain or not path.name or path.is_absolute() or ".." in path.parts:
            yield f"files: expected the name of a file inside the bundle, got {name!r}, which leaves the bundle"
    for names in alike_but_for_case(manifest.files):
        yield f"files: expected names that differ by more than upper and lower case, got {' and '.join(names)}"
    for name, graph in manifest.graphs.items():
        if not re.fullmatch(GRAPH_NAME, name):
            yield f"graphs: expected a name of letters, digits, spaces and ._+()-, got {name!r}"
        if not graph.file.endswith(".onnx"):
            yield f"graphs.{name}.file: expected an .onnx file, got {graph.file!r}"


def _call_problems(call: PlannedCall, graphs: Mapping[str, Graph]) -> Iterator[str]:
    """Where a graph's tensors are not those that the plan feeds and takes."""
    for name in matches(call.graph, set(graphs)).values():
        inputs = {tensor.name: tensor for tensor in graphs[name].inputs}
        outputs = {tensor.name: tensor for tensor in graphs[name].outputs}
        fed = expand_wildcards(call.inputs, inputs)
        for what, lost in (
            ("inputs", [*(fed.keys() - inputs.keys()), *(inputs.keys() - fed.keys())]),
            ("outputs", expand_wildcards(call.outputs, outputs).keys() - outputs.keys()),
        ):
            if lost:
                yield f"graphs.{name}.{what}: expected those of the plan, got others: {', '.join(sorted(lost))}"
        for tensor, shape in call.shapes.items():
            there = inputs.get(tensor, outputs.get(tensor))
            if there is not None and not shapes_agree(there.shape, shape):
                yield f"graphs.{name}: expected {tensor} {list(shape)} as the plan has it, got {list(there.shape)}"
