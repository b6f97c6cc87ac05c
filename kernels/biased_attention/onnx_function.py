"""The op as one ONNX node with a model-local function as its body, which any backend inlines.

Scores are computed in the query's type, scaled first so that float16 holds them, and all that comes of them up to the
probabilities in float32, as their deviation is a sum over the whole sample.
"""

import onnx
from onnx import parser

from ..domain import DOMAIN
from ..injected_attention.onnx_function import HEADS, OPSET
from .op import INPUTS, NAME

_BODY = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{NAME} <num_heads, scale, plugin_namespace, plugin_version>
    ({", ".join(INPUTS)}) => (output)
{{
{HEADS}
    scores_like = MatMul (q, k)
    scores = Cast <to = 1> (scores_like)
    of_a_sample = Constant <value = int64[3] {{1, 2, 3}}> ()
    peak = ReduceMax <keepdims = 1> (scores, of_a_sample)
    mean = ReduceMean <keepdims = 1> (scores, of_a_sample)
    centred = Sub (scores, mean)
    squares = Mul (centred, centred)
    spread = ReduceMean <keepdims = 1> (squares, of_a_sample)
    sizes = Shape <start = 1, end = 4> (scores)
    count_0 = ReduceProd <keepdims = 1> (sizes)
    fewer_0 = Sub (count_0, one)
    count = Cast <to = 1> (count_0)
    fewer = Cast <to = 1> (fewer_0)
    correction = Div (count, fewer)
    variance = Mul (spread, correction)
    deviation = Sqrt (variance)

    of_peak = Reshape (gain_max, per_sample)
    of_deviation = Reshape (gain_deviation, per_sample)
    peak_rise = Mul (of_peak, peak)
    deviation_rise = Mul (of_deviation, deviation)
    rise = Add (peak_rise, deviation_rise)
    map = Unsqueeze (bias, one)
    lift = Mul (map, rise)
    lifted = Add (scores, lift)
    heads_and_queries = Constant <value = int64[2] {{1, 2}}> ()
    of_keys = Unsqueeze (key_bias, heads_and_queries)
    raised = Add (lifted, of_keys)
    probabilities = Softmax <axis = -1> (raised)
    probabilities_like = CastLike (probabilities, value)
    out_heads = MatMul (probabilities_like, v)
    out_split = Transpose <perm = [0, 2, 1, 3]> (out_heads)
    output = Reshape (out_split, merged)
}}
"""


def biased_function() -> onnx.FunctionProto:
    """The function's definition, to be put into a model that has the node."""
    return parser.parse_function(_BODY)
