"""One session that computes a graph with any set of its operations in half: an input switches the rounding of each."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import parser

from ..graphs.graph_io import read_graph
from ..graphs.graph_runs import InMemory
from ..graphs.part_names import path_of
from .fp16 import refuse_subgraphs
from .fp16_emulation import insert_after, insert_roundings
from .fp16_nodes import Positions, rounding_nodes
from .weight_rounding import INFINITY_FROM, LARGEST_FP16

DOMAIN, OPSET = "x2i.rounding", 20
KEEP, PEAKS = "rounding.keep", "rounding.peaks"
_ROUND = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
Round (x, keep) => (y)
{{
    half = Cast <to = 10> (x)
    single = Cast <to = 1> (half)
    y = Where (keep, x, single)
}}
"""
_PEAK = f"""
<domain: "{DOMAIN}", opset_import: ["": {OPSET}]>
Peak (x) => (y)
{{
    size = Abs (x)
    limit = Constant <value_float = {INFINITY_FROM}> ()
    zero = Constant <value_float = 0.0> ()
    is_number = Less (size, limit)
    number = Where (is_number, size, zero)
    peak = ReduceMax <keepdims = 0> (number)
    axis = Constant <value_ints = [0]> ()
    y = Unsqueeze (peak, axis)
}}
"""


class Fp16Probe:
    """A float32 graph on ONNX Runtime's CPU. `paths` are its operations that can be in half, in order.

    Loading it takes the memory of the float32 graph; a call rounds the weights anew, one at a time.
    """

    def __init__(self, source: Path):
        model = read_graph(source)
        refuse_subgraphs(model, source)
        nodes = rounding_nodes(model)
        self.paths = tuple(dict.fromkeys(map(path_of, nodes)))
        self._peaks_of = _switch(model, nodes)
        # Folding would compute both forms of every weight while loading, and hold them.
        self._session = InMemory(model, source.parent, folded=False)

    def __call__(self, inputs: Mapping[str, np.ndarray], excluded: Collection[str]) -> dict[str, np.ndarray]:
        """The graph's outputs with every operation in half but the excluded ones, which are in float32."""
        outputs = self._session({**inputs, KEEP: np.array([path in excluded for path in self.paths], bool)})
        outputs.pop(PEAKS, None)
        return outputs

    def peaks(self, inputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The largest number that each operation reads or writes in float32; masks of infinity do not count."""
        peaks = self._session({**inputs, KEEP: np.ones(len(self.paths), bool)}).get(PEAKS, ())
        largest = dict.fromkeys(self.paths, 0.0)
        for path, peak in zip(self._peaks_of, peaks, strict=True):
            largest[path] = max(largest[path], float(peak))
        return largest


def _switch(model: ir.Model, nodes: Mapping[ir.Node, Positions]) -> list[str]:
    """Inserts the roundings, the input that switches them and the output of the peaks; returns each peak's path."""
    graph = model.graph
    for text in (_ROUND, _PEAK):
        function = ir.serde.deserialize_function(parser.parse_function(text))
        model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = 1
    switches = _switches(graph, tuple(dict.fromkeys(map(path_of, nodes))))
    emulated: dict[tuple[ir.Value, str], ir.Value] = {}
    peaks: list[ir.Value] = []
    peaks_of: list[str] = []

    def switched(node: ir.Node, value: ir.Value) -> ir.Value:
        path = path_of(node)
        if (value, path) not in emulated:
            out = _value(f"{value.name}.in.{path}", ir.DataType.FLOAT, value.shape)
            emulated[value, path] = emulated[out, path] = out
            if value.is_initializer():
                _saturate(value)
            else:
                peaks.append(_value(f"{value.name}.peak.{path}", ir.DataType.FLOAT, ir.Shape([1])))
                peaks_of.append(path)
                insert_after(value, node, ir.node("Peak", [value], domain=DOMAIN, outputs=peaks[-1:]))
            insert_after(value, node, ir.node("Round", [value, switches[path]], domain=DOMAIN, outputs=[out]))
        return emulated[value, path]

    insert_roundings(model, nodes, switched)
    if peaks:
        graph.outputs.append(_value(PEAKS, ir.DataType.FLOAT, ir.Shape([len(peaks)])))
        graph.append(ir.node("Concat", peaks, {"axis": 0}, outputs=[graph.outputs[-1]]))
    return peaks_of


def _switches(graph: ir.Graph, paths: tuple[str, ...]) -> dict[str, ir.Value]:
    """A scalar per operation, gathered from the one input that says which stay in float32."""
    keep = _value(KEEP, ir.DataType.BOOL, ir.Shape([len(paths)]))
    graph.inputs.append(keep)
    first = next(iter(graph))
    switches = {}
    for i, path in enumerate(paths):
        index = _value(f"{KEEP}.{i}", ir.DataType.INT64, ir.Shape([]))
        index.const_value = ir.tensor(np.int64(i), name=index.name)
        graph.register_initializer(index)
        switches[path] = _value(f"{KEEP}.{path}", ir.DataType.BOOL, ir.Shape([]))
        graph.insert_before(first, ir.node("Gather", [keep, index], outputs=[switches[path]]))
    return switches


def _saturate(weight: ir.Value) -> None:
    """Replaces what stands for infinity by the largest float16, as `as_fp16` does."""
    assert weight.const_value is not None
    array = weight.const_value.numpy()
    stands_in = np.isfinite(array) & (np.abs(array) > INFINITY_FROM)
    if stands_in.any():
        finite = np.where(stands_in, np.copysign(np.float32(LARGEST_FP16), array), array)
        weight.const_value = ir.tensor(finite, name=weight.name)


def _value(name: str, kind: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=name, shape=shape, type=ir.TensorType(kind))
