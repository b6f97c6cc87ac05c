"""int8 written into a denoiser: explicit QuantizeLinear and DequantizeLinear around its convolutions and matrices.

Weights are int8 per output channel, activations int8 per tensor, both symmetric: TensorRT takes no zero points. The
nodes are put in by ONNX Runtime's quantizer, and ranges come from its histograms. NNCF's quantizer was tried on the
small denoiser beside it: with the same layers and samples it lost twice as much, and it needs a dozen more packages.
Biases stay float32, because engines refuse what ONNX Runtime would make of them.
"""

import contextlib
import gc
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from ..graphs.graph_io import read_graph, read_hardlinked, write_graph
from ..graphs.graph_runs import RecordedCalls, relative_error
from ..graphs.part_names import SCOPES
from .int8_layers import LEVELS, Layer, layers_to_quantize, quantizable_layers
from .int8_probe import Int8Probe
from .int8_sensitivity import Damage, Ranges, ranges_of, rank_layers, worst_layers
from .int8_splits import split_gates, split_shortcuts

OPERATORS = ["Conv", "MatMul"]
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    # Without this, weights get coarser steps for the sake of integer biases, of which there are none here.
    "QDQDisableWeightAdjustForInt32Bias": True,
    # Their outputs are read in float: the next layer quantizes them by its own range.
    "OpTypesToExcludeOutputQuantization": OPERATORS,
}
INFERRED = "onnx.infer"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How far int8 goes: the level, layers to leave in float, and the largest error allowed.

    `keep_fp32` holds module paths and patterns. With a `target`, as many of the worst layers stay in float as it takes;
    the error is the relative L2 distance of the noise. `split` gives each half of a skip connection its scale.
    """

    level: float = LEVELS[-1]
    keep_fp32: tuple[str, ...] = ()
    target: float | None = None
    split: bool = True


@dataclass(frozen=True, slots=True)
class Int8Result:
    """A graph in int8: the layers in int8, those of the level that stayed in float, and the error.

    `split` counts skip connections whose halves have scales of their own, `samples` the recorded calls behind the
    ranges. `error` is the relative L2 distance of the noise from the float32 graph's, over held-out samples. `damage`
    ranks layers, the worst first; it is empty unless a ranking or a target was wanted.
    """

    layers: tuple[str, ...]
    excluded: tuple[str, ...]
    split: int
    samples: int
    error: float
    damage: tuple[Damage, ...] = ()


def to_int8(
    source: Path,
    target: Path,
    calibration: RecordedCalls,
    held_out: RecordedCalls,
    recipe: Recipe = Recipe(),
    ranked: bool = False,
) -> Int8Result:
    """Writes a float32 graph with int8 layers to `target`: the same inputs, the same bytes.

    `calibration` sets the ranges, `held_out` measures; `ranked` measures every layer's damage too, as a quality target
    does in any case. Raises PlanError for a level or layer that there is not, or where nothing is left to quantize.
    """
    model, halves = _split(source, recipe)
    every = quantizable_layers(model)
    wanted = layers_to_quantize(every, recipe.level, recipe.keep_fp32)
    ranges = ranges_of(model, sorted({layer.activation for layer in wanted}), calibration, source.parent)
    damage: tuple[Damage, ...] = ()
    if ranked or recipe.target is not None:
        switched = Int8Probe(quantize_layers(model, wanted, ranges, source.parent), model, wanted, source.parent)
        damage = rank_layers(switched, held_out)
        if recipe.target is not None:
            worst = worst_layers(switched, damage, held_out, recipe.target)
            wanted = [layer for layer in wanted if layer.path not in worst]
        del switched
    write_graph(quantize_layers(model, wanted, ranges, source.parent), target)
    paths = tuple(layer.path for layer in wanted)
    level = layers_to_quantize(every, recipe.level)
    excluded = tuple(layer.path for layer in level if layer.path not in paths)
    error = relative_error(target, source, held_out)
    return Int8Result(paths, excluded, halves, len(calibration), error, damage)


def check_recipe(source: Path, recipe: Recipe) -> None:
    """Raises PlanError for a level or layer that a float32 graph has not, or where nothing is left to quantize."""
    layers_to_quantize(quantizable_layers(_split(source, recipe)[0]), recipe.level, recipe.keep_fp32)


def _split(source: Path, recipe: Recipe) -> tuple[ir.Model, int]:
    """The graph with split layers, and the number of skip connections whose halves have scales of their own."""
    model = read_graph(source)
    halves = split_shortcuts(model) if recipe.split else 0
    split_gates(model)
    return model, halves


def quantize_layers(model: ir.Model, layers: Sequence[Layer], ranges: Ranges, folder: Path) -> ir.Model:
    """A copy of the model with the layers in int8; `folder` is where external weights lie."""
    made = ir.from_proto(onnx.ModelProto.FromString(_with_pairs(model, layers, ranges)))
    # What the quantizer leaves behind holds the float32 weights, in circles.
    gc.collect()
    del made.metadata_props[INFERRED]
    read_hardlinked(made.graph, folder)
    _type_pairs(made.graph)
    _restore_float_readers(made.graph, {layer.node for layer in layers})
    return made


def _with_pairs(model: ir.Model, layers: Sequence[Layer], ranges: Ranges) -> bytes:
    """The model as the quantizer leaves it, serialized."""
    proto = ir.to_proto(model)
    _read_weights(proto, model, {layer.weight for layer in layers})
    # All types are known: without this mark the quantizer would write the model to disk to infer them.
    add_infer_metadata(proto)
    tensors = TensorsData(CalibrationMethod.Percentile, dict(ranges))
    nodes = [layer.node for layer in layers]
    # The quantizer prints notes on what it leaves alone.
    with contextlib.redirect_stdout(io.StringIO()):
        quantizer = QDQQuantizer(
            proto, True, False, QuantType.QInt8, QuantType.QInt8, tensors, nodes, [], OPERATORS, dict(OPTIONS)
        )
        quantizer.quantize_model()
    return quantizer.model.model.SerializeToString()


def _type_pairs(graph: ir.Graph) -> None:
    """Types, shapes and parts of what the quantizer put in, which it leaves open: later passes go by them."""
    kinds = {"QuantizeLinear": ir.DataType.INT8, "DequantizeLinear": ir.DataType.FLOAT}
    # Backwards, so that a pair's second node knows its part before the first one asks.
    for node in reversed(graph):
        if node.op_type in kinds:
            assert node.inputs[0] is not None
            node.outputs[0].dtype, node.outputs[0].shape = kinds[node.op_type], node.inputs[0].shape
            scopes = node.outputs[0].consumers()[0].metadata_props.get(SCOPES)
            node.metadata_props.update({} if scopes is None else {SCOPES: scopes})


def _restore_float_readers(graph: ir.Graph, nodes: Collection[str]) -> None:
    """Lets all but the layers in int8 read in float again: the quantizer gives every reader of a tensor its pair, so
    that what a residual or a normalisation adds up would be rounded too."""
    for pair in [node for node in graph if node.op_type == "DequantizeLinear"]:
        assert pair.inputs[0] is not None
        first = pair.inputs[0].producer()
        if first is None:
            continue
        for reader, i in list(pair.outputs[0].uses()):
            if reader.name not in nodes:
                reader.replace_input_with(i, first.inputs[0])


def _read_weights(proto: onnx.ModelProto, model: ir.Model, names: Collection[str]) -> None:
    """Those weights that the quantizer works on; the others stay in their file."""
    for tensor in proto.graph.initializer:
        if tensor.name in names and uses_external_data(tensor):
            weight = model.graph.initializers[tensor.name].const_value
            assert weight is not None
            tensor.raw_data = weight.tobytes()
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
