"""A denoiser's graph that takes painted words: in every cross-attention one node reads a map beside keys and values.

It is cut from the finished graph, whatever its precision, and holds no weight: it refers to those in the files of that
graph. A second attention that joins a layer stays: the node that computed both goes on with values of zeros, which
leaves its own part alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from x2i.kernels.biased_attention import op as biased
from x2i.kernels.domain import ATTRIBUTES, DOMAIN, VERSION
from x2i.kernels.injected_attention.op import NAME
from x2i.runtime.inputs.paint import GAIN_DEVIATION, GAIN_MAX, PaintLayer, painted_name
from x2i.runtime.items.weights import KEY_BIAS

from ..errors import PlanError
from ..graphs import graph_io
from ..graphs.own_operators import define_functions
from ..graphs.part_names import is_module, path_of
from ..graphs.rewiring import cast_value, prune, unquantized

SINGLE = ir.DataType.FLOAT


def write_paint_graph(source: Path, target: Path, layers: Sequence[PaintLayer]) -> None:
    """Writes the graph `source` with inputs for painted words in these layers to `target`, in the same folder.

    Raises PlanError for a layer that the graph has not.
    """
    assert source.parent == target.parent, "a variant refers to the weights beside it"
    model = graph_io.read_graph(source)
    graph_io.refer_to_weights(model.graph, source)
    inputs = {value.name: value for value in _add_inputs(model.graph, layers)}
    missing = [layer.path for layer in layers if not _Layer(model.graph, layer).paint(inputs)]
    if missing:
        raise PlanError(f"{source.name}: expected the cross-attention {', '.join(missing)}, found none to paint into")
    model.opset_imports[DOMAIN] = VERSION
    define_functions(model)
    prune(model)
    graph_io.write_beside(model, target)


def _add_inputs(graph: ir.Graph, layers: Sequence[PaintLayer]) -> Iterator[ir.Value]:
    """The maps, one for each size, the factors and what is added to the tokens' scores."""
    key = next(value for value in graph.inputs if str(value.name).startswith("key."))
    assert key.shape is not None
    batch, tokens, _ = key.shape
    sizes = {painted_name(each): (batch, f"cells_{each}", tokens) for each in sorted({one.factor for one in layers})}
    for name, shape in (sizes | {GAIN_MAX: (batch,), GAIN_DEVIATION: (batch,), KEY_BIAS: (batch, tokens)}).items():
        value = ir.Value(name=name, type=ir.TensorType(SINGLE), shape=ir.Shape(shape))
        graph.inputs.append(value)
        yield value


class _Layer:
    """One cross-attention of a graph."""

    def __init__(self, graph: ir.Graph, layer: PaintLayer):
        self._graph, self._layer = graph, layer
        self._name = f"painted.{layer.path}"

    def paint(self, inputs: dict[str | None, ir.Value]) -> bool:
        """Puts the node in the place of the attention; False where there is none."""
        own = [node for node in self._graph if self._is_inside(node)]
        made = next((node for node in own if (node.domain, node.op_type) == (DOMAIN, NAME)), None)
        query = self._query(own) if made is None else made.inputs[0]
        output = self._output(own) if made is None else made.outputs[0]
        if query is None or output is None:
            return False
        uses = tuple(output.uses())
        attended = self._node(query, output, inputs)
        if made is not None:
            attended = self._op("Add", [attended, self._second(made)], output, "sum")
        for user, place in uses:
            user.replace_input_with(place, attended)
        return True

    def _is_inside(self, node: ir.Node) -> bool:
        """Whether a node is the attention's own, and none of its projections'."""
        return is_module(path_of(node).rpartition(".")[0], self._layer.path)

    def _query(self, own: Sequence[ir.Node]) -> ir.Value | None:
        """What the projection of the queries gives."""
        for node in own:
            for value in node.inputs:
                producer = None if value is None else value.producer()
                if producer is not None and f"{self._layer.path}.to_q." in f"{path_of(producer)}.":
                    return value
        return None

    def _output(self, own: Sequence[ir.Node]) -> ir.Value | None:
        """What the projection behind the attention reads, before it is quantized."""
        inside = set(own)
        last = [value for node in own for value in node.outputs if any(user not in inside for user, _ in value.uses())]
        return unquantized(last[-1]) if last else None

    def _node(self, query: ir.Value, output: ir.Value, inputs: dict[str | None, ir.Value]) -> ir.Value:
        """The biased attention, in the type of `output`."""
        layer, name = self._layer, self._layer.path.removesuffix(".attn2")
        key, value = (self._input(f"{kind}.{name}", query) for kind in ("key", "value"))
        assert query.dtype is not None and key.shape is not None
        channels = key.shape[2]
        assert isinstance(channels, int)
        bias = inputs[painted_name(layer.factor)]
        rest = (inputs[GAIN_MAX], inputs[GAIN_DEVIATION], inputs[KEY_BIAS])
        attributes = {"num_heads": layer.heads, "scale": (channels // layer.heads) ** -0.5, **ATTRIBUTES}
        made = ir.Value(name=self._name, type=ir.TensorType(query.dtype), shape=output.shape)
        node = ir.node(
            biased.NAME,
            [query, key, value, bias, *rest],
            attributes,
            domain=DOMAIN,
            outputs=[made],
            name=f"node_{self._name}",
        )
        self._graph.append(node)
        if output.dtype in (None, query.dtype):
            return made
        assert output.dtype is not None
        return cast_value(self._graph, made, f"{self._name}.cast", output.dtype)

    def _input(self, name: str, like: ir.Value) -> ir.Value:
        """The graph's input in the type of another value."""
        value = next(each for each in self._graph.inputs if each.name == name)
        assert like.dtype is not None
        if value.dtype == like.dtype:
            return value
        return cast_value(self._graph, value, f"{self._name}.{name.partition('.')[0]}", like.dtype)

    def _second(self, made: ir.Node) -> ir.Value:
        """What the node of both attentions gives without the first."""
        value = made.inputs[2]
        assert value is not None and value.dtype is not None
        zero = graph_io.add_initializer(self._graph, f"{self._name}.zero", np.zeros((), value.dtype.numpy()))
        made.replace_input_with(2, self._op("Mul", [value, zero], value, "no_value"))
        return made.outputs[0]

    def _op(self, operator: str, inputs: Sequence[ir.Value], like: ir.Value, name: str) -> ir.Value:
        assert like.dtype is not None
        out = ir.Value(name=f"{self._name}.{name}", type=ir.TensorType(like.dtype), shape=like.shape)
        self._graph.append(ir.node(operator, inputs, outputs=[out], name=f"node_{out.name}"))
        return out
