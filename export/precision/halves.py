"""Nodes that compute one half of what another node computed, and say so in their module path."""

import ast
from collections.abc import Sequence

import onnx_ir as ir

from .part_names import SCOPES


def like(
    node: ir.Node, operator: str, inputs: Sequence[ir.Value | None], out: str, name: str, metadata: dict[str, str]
) -> ir.Node:
    """A node with the output type of another."""
    value = ir.Value(name=out, shape=node.outputs[0].shape, type=node.outputs[0].type)
    return ir.node(operator, inputs, outputs=[value], name=name, metadata_props=metadata)


def half_scopes(node: ir.Node, half: int) -> dict[str, str]:
    """The node's metadata, its module path one word longer: the half's number."""
    if SCOPES not in node.metadata_props:
        return {}
    *modules, operation = ast.literal_eval(node.metadata_props[SCOPES])
    return {SCOPES: repr([*modules, f"{modules[-1]}.{half}", operation])}
