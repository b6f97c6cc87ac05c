"""Which nodes of a graph a provider took, and which are left to the CPU.

ONNX Runtime gives every node to the first provider that takes it, and the rest to the CPU without a word. Two kinds are
left there. Nodes that count (sizes, indices: every output an integer or a boolean) are a few numbers, and ONNX Runtime
keeps them there on purpose, on every GPU. Nodes that compute are what a caller must know of.
"""

import mmap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from ...files.mapped import map_file
from ...files.onnx_weights import graph_fields
from ...files.protobuf import Field, message_fields

RECORD = "session.record_ep_graph_assignment_info"
"""The setting of a session under which ONNX Runtime keeps who took what."""
CPU = "CPUExecutionProvider"
MOST_NAMED = 6
"""Nodes that a line names; the others are counted."""
COUNTING = frozenset(
    (
        *("Cast", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "GatherElements", "Greater", "Less"),
        *("Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
    )
)
"""Operators that count, or move what is there, by which a node is judged that the file does not name: of a function's
body, or made by ONNX Runtime."""
_WHOLE = frozenset((2, 3, 4, 5, 6, 7, 9, 12, 13))
"""Integers and booleans in onnx.proto."""
_GRAPH_NODE, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 12, 13
_NODE_OUTPUT, _NODE_NAME, _VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _ELEMENT = 2, 3, 1, 2, 1, 1


@dataclass(frozen=True, slots=True)
class Node:
    """A node by its name in the graph, which may be empty, and its operator."""

    name: str
    operator: str

    def __str__(self) -> str:
        return f"{self.operator} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """What is left to the CPU of a graph that `provider` was asked to take: nodes that count, and nodes that compute.

    `others` are the numbers of nodes by provider as ONNX Runtime tells them, the CPU's left out: of a provider that
    it was built with, some may be missing there.
    """

    provider: str
    counting: tuple[Node, ...] = ()
    computing: tuple[Node, ...] = ()
    others: tuple[tuple[str, int], ...] = ()

    def line(self) -> str:
        """The same with the first of the nodes that compute by their names."""
        return str(self) + (f": {named(self.computing)}" if self.computing else "")

    def __str__(self) -> str:
        left = [(self.counting, "that count"), (self.computing, "that compute")]
        said = [f"{len(nodes)} nodes {what}" for nodes, what in left if nodes]
        return f"all on {self.provider}" if not said else f"on {self.provider}, but on the CPU {' and '.join(said)}"


def placement(path: Path, session: "onnxruntime.InferenceSession", provider: str) -> NodePlacement:
    """Who took the nodes of a graph in a session that was opened with RECORD."""
    left: list[Node] = []
    others: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes = [Node(node.name, node.op_type) for node in part.get_nodes()]
        if part.ep_name == CPU and provider != CPU:
            left += nodes
        else:
            others[part.ep_name] += len(nodes)
    types = _whole_nodes(path) if left else {}
    counting = [types.get(node.name, node.operator in COUNTING) for node in left]
    return NodePlacement(
        provider,
        tuple(node for node, counts in zip(left, counting, strict=True) if counts),
        tuple(node for node, counts in zip(left, counting, strict=True) if not counts),
        tuple(sorted(others.items())),
    )


def named(nodes: Iterable[Node]) -> str:
    """The first nodes by their names, and how many more there are."""
    shown = [str(node) for node in nodes]
    more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    return ", ".join(shown[:MOST_NAMED]) + more


def _whole_nodes(path: Path) -> dict[str, bool]:
    """Whether every output of a node is of integers or booleans, by the nodes' names; nodes of whose outputs the file
    does not tell the type are left out."""
    content = map_file(path, path)
    types: dict[bytes, int] = {}
    outputs: dict[str, list[bytes]] = {}
    for field in graph_fields(content):
        if field.number in (_GRAPH_OUTPUT, _GRAPH_VALUE):
            types |= {name: _element(content, field) for name in _texts(content, field, _VALUE_NAME)}
        elif field.number == _GRAPH_NODE:
            (name,) = _texts(content, field, _NODE_NAME) or [b""]
            outputs[name.decode()] = [made for made in _texts(content, field, _NODE_OUTPUT) if made]
    return {
        name: all(types[made] in _WHOLE for made in several)
        for name, several in outputs.items()
        if name and all(made in types for made in several)
    }


def _element(content: mmap.mmap, value: Field) -> int:
    """The number of a value's type in onnx.proto, 0 for what is no tensor."""
    inside = [value]
    for number in (_VALUE_TYPE, _TENSOR_TYPE, _ELEMENT):
        inside = [
            found
            for outer in inside
            for found in message_fields(content, outer.begin, outer.stop)
            if found.number == number
        ]
    return next((field.value for field in inside if field.value is not None), 0)


def _texts(content: mmap.mmap, message: Field, number: int) -> list[bytes]:
    fields = message_fields(content, message.begin, message.stop)
    return [content[field.begin : field.stop] for field in fields if field.number == number and field.long]
