"""The most that a call's tensors take at one time, in the graph's own order."""

from collections.abc import Collection

from .operations import attention_scores
from .static_graph import StaticGraph

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
