"""What `manifest.json` says of a bundle; every field is plain JSON."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ..gate.record import Gate
from .plan import Plan
from .records import encode

REVISION = 5
"""1 had texts only; 2 knows pictures, placeholder words and a second attention; 3 knows markers, delays, sounds and a
mix; 4 knows precisions, kept parts and the gate; 5 knows presets. Older revisions are read."""
FILE_NAME = "manifest.json"
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8+fp16", "int8-weights", "int4-weights"]
"""`bf16` is stored in float32, and may be computed in bfloat16 where the CPU has it. `int8` is explicit: QuantizeLinear
and DequantizeLinear in the graph, the rest of it float32, or float16 where it says so. `-weights` are stored in blocks
and computed with in float32."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A graph input or output: ONNX name, numpy dtype name, shape with names for the sizes that are free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Error of the graph against fp32 torch on the stored proof, and the gate it had to pass.

    `error` is the largest absolute difference divided by the standard deviation of torch's output.
    """

    error: float
    gate: float


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


@dataclass(frozen=True, slots=True)
class File:
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    bytes: int
    sha256: str


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
    revision: int = REVISION

    def as_json(self) -> dict[str, Any]:
        """What the file holds; its revision is told whichever it is."""
        return {"revision": self.revision} | encode(self)

    def problems(self) -> list[str]:
        """What does not fit together inside the manifest."""
        named = [conditioner.text.tokenizer for conditioner in self.plan.conditioners if conditioner.text is not None]
        named += [name for graph in self.graphs.values() for name in (graph.file, *graph.data, *graph.proof.values())]
        named += self.gate.files() if self.gate is not None else []
        missing = [
            f"manifest: {name} is used but has no digest under 'files'"
            for name in dict.fromkeys(named)
            if name not in self.files
        ]
        return missing + self.plan.problems(set(self.graphs))
