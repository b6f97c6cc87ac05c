"""One call of a graph by numbers: multiplications, bytes that it moves, and the peak of its tensors' memory."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

import onnx
import onnx_ir as ir

from .devices import Kind
from .static_graph import StaticGraph

PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
ELEMENTWISE = {"Add", "Cast", "DequantizeLinear", "Div", "IsNaN", "Mul", "QuantizeLinear", "Softmax", "Sub", "Where"}
MOVES = {"DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators whose result a kernel reads where their input lies."""
EIGHT_BITS = {ir.DataType.INT8, ir.DataType.UINT8}


@dataclass(frozen=True, slots=True)
class Work:
    """One call: multiplications with their additions by type, those of them between two activations (attention's),
    bytes of constants as stored, and of every tensor that a product reads or writes.

    Probabilities and scores of attention are in no tensor here: fused attention never writes them.
    """

    macs: dict[Kind, int]
    attention_macs: int
    weights: int
    moved: tuple[int, ...]


def count_work(graph: StaticGraph) -> Work:
    """Counts the work of one call of a graph at its shapes."""
    lineage, scores = Lineage(graph), attention_scores(graph)
    macs: defaultdict[Kind, int] = defaultdict(int)
    attention, read, written = 0, set[str](), set[str]()
    for node in graph.nodes:
        if node.op_type not in PRODUCTS:
            continue
        count = _macs(graph, node)
        macs[_product_type(graph, node, lineage)] += count
        sources = [lineage.origin(name) for name in node.input[:2]]
        if not any(source in graph.constants for source in sources):
            attention += count
        read |= {source for source in sources if source not in graph.constants}
        written.add(node.output[0])
    tensors = [*(read - scores), *(written - scores)]
    moved = sorted((graph.tensors[name].bytes for name in tensors), reverse=True)
    return Work(dict(macs), attention, constant_bytes(graph), tuple(moved))


def constant_bytes(graph: StaticGraph) -> int:
    """Bytes of the constants that nodes read; of a table that is read by rows, the rows that are read."""
    readers = defaultdict(list)
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if name in graph.constants:
                readers[name].append((node, index))
    total = 0
    for name, uses in readers.items():
        rows = [graph.tensors[node.output[0]] for node, index in uses if node.op_type == "Gather" and index == 0]
        whole = graph.tensors[name].bytes
        total += min(whole, sum(tensor.bytes for tensor in rows)) if len(rows) == len(uses) else whole
    return total


def attention_scores(graph: StaticGraph) -> set[str]:
    """Tensors between a product of activations, a softmax and the next product, of the softmax's own shape."""
    makers = {name: node for node in graph.nodes for name in node.output}
    users = defaultdict(list)
    for node in graph.nodes:
        for name in node.input:
            users[name].append(node)
    found = set[str]()
    for softmax in (node for node in graph.nodes if node.op_type == "Softmax"):
        shape, open_ends = graph.tensors[softmax.output[0]].shape, [softmax.input[0], softmax.output[0]]
        while open_ends:
            name = open_ends.pop()
            if name in found or name not in graph.tensors or graph.tensors[name].shape != shape:
                continue
            found.add(name)
            maker = makers.get(name)
            open_ends += maker.input if maker is not None and maker.op_type in ELEMENTWISE else []
            open_ends += [made for user in users[name] if user.op_type in ELEMENTWISE for made in user.output]
    return found


class Lineage:
    """Where a tensor's numbers come from, past the nodes that only lay them out or spread them."""

    def __init__(self, graph: StaticGraph):
        self._makers = {name: node for node in graph.nodes for name in node.output}

    def origin(self, name: str) -> str:
        """The tensor whose memory a kernel reads for this one: behind reshapes and the like."""
        return [name, *self._past(name)][-1]

    def dequantized_from(self, name: str) -> str | None:
        """The integers that a tensor was dequantized from."""
        for past in [name, *self._past(name)]:
            if past in self._makers and self._makers[past].op_type == "DequantizeLinear":
                return self._makers[past].input[0]
        return None

    def _past(self, name: str) -> Iterator[str]:
        while name in self._makers and self._makers[name].op_type in MOVES:
            name = self._makers[name].input[0]
            yield name


def _macs(graph: StaticGraph, node: onnx.NodeProto) -> int:
    first, second = (graph.tensors[name].shape for name in node.input[:2])
    made = prod(graph.tensors[node.output[0]].shape)
    if node.op_type == "Conv":
        return made * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return made * first[0 if turned else -1]


def _product_type(graph: StaticGraph, node: onnx.NodeProto, lineage: Lineage) -> Kind:
    """int8 where both operands were dequantized from 8 bits for this product, else the type of the result."""
    integers = [lineage.dequantized_from(name) for name in node.input[:2]]
    if all(name is not None and graph.tensors[name].type in EIGHT_BITS for name in integers):
        return "int8"
    return "fp16" if graph.tensors[node.output[0]].type == ir.DataType.FLOAT16 else "fp32"


SHARING = {"DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators whose result lies where their input does, or is never written."""


def peak_bytes(graph: StaticGraph, fused_attention: bool = True) -> int:
    """Largest sum of tensors alive, inputs and outputs included and constants not.

    A tensor lives from the node that makes it to the last that reads it; nothing is computed in place and nothing is
    fused but, unless told otherwise, attention, whose scores are then never there.
    """
    unwritten = attention_scores(graph) if fused_attention else set[str]()
    owners = _owners(graph)
    last = _last_reads(graph, owners)
    alive = {name: graph.tensors[name].bytes for name in graph.inputs}
    peak = sum(alive.values())
    for number, node in enumerate(graph.nodes):
        for name in node.output:
            if name and owners[name] == name and name not in unwritten:
                alive[name] = graph.tensors[name].bytes
        peak = max(peak, sum(alive.values()))
        for name in {owners[name] for name in (*node.input, *node.output) if name}:
            if last.get(name, -1) <= number:
                alive.pop(name, None)
    return peak


def _owners(graph: StaticGraph) -> dict[str, str]:
    """The tensor in whose memory each one lies; constants, and what is made of them, are their own."""
    owners = {name: name for name in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        for name in filter(None, node.output):
            owners[name] = owners[node.input[0]] if node.op_type in SHARING else name
    return owners


def _last_reads(graph: StaticGraph, owners: dict[str, str]) -> dict[str, int]:
    """The number of the last node that reads a tensor; outputs are read after all."""
    last = {owners[name]: number for number, node in enumerate(graph.nodes) for name in node.input if name}
    return last | dict.fromkeys(_owned(graph.outputs, owners), len(graph.nodes))


def _owned(names: Collection[str], owners: dict[str, str]) -> list[str]:
    return [owners[name] for name in names]
