"""The operators of ours in a graph: the functions that are their bodies, and which of their inputs are never halved."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from x2i.kernels.biased_attention import op as biased
from x2i.kernels.biased_attention.onnx_function import biased_function
from x2i.kernels.domain import DOMAIN, VERSION
from x2i.kernels.injected_attention import op as injected
from x2i.kernels.injected_attention.onnx_function import function_proto


@dataclass(frozen=True, slots=True)
class OwnOperator:
    """`body` makes its function; `inputs` are its names of them, of which those `in_single` stay float32 in half."""

    body: Callable[[], onnx.FunctionProto]
    inputs: tuple[str, ...]
    in_single: frozenset[str]


OWN_OPERATORS = {
    injected.NAME: OwnOperator(function_proto, injected.INPUTS, frozenset({"strength"})),
    biased.NAME: OwnOperator(biased_function, biased.INPUTS, biased.IN_SINGLE),
}
"""By the node's name, all in the domain `kernels.domain.DOMAIN`."""


def own_operator(node: ir.Node) -> OwnOperator | None:
    """What a node of ours is, None for any other."""
    return OWN_OPERATORS.get(node.op_type) if node.domain == DOMAIN else None


def define_functions(model: ir.Model) -> None:
    """Gives the nodes of our own domain their bodies."""
    for name in dict.fromkeys(node.op_type for node in model.graph if own_operator(node) is not None):
        function = ir.serde.deserialize_function(OWN_OPERATORS[name].body())
        model.functions[function.identifier()] = function
        model.opset_imports[DOMAIN] = VERSION
