"""The op as one ONNX node with a model-local function as its body.

A backend with the plugin runs the node as one kernel; any other inlines the body. The body never reads a probability
matrix twice: eight columns are appended to the values, the first of them one-hot at the token, so the same product
that gives the attention's output also gives that token's probabilities. Queries and keys are padded by eight zeros,
which changes no score, because fused attention kernels want keys and values of one width.
"""

import onnx
from onnx import parser

from ..domain import DOMAIN
from .op import NAME

OPSET = 20
"""The version of the standard operators that the body uses."""
HEADS = """
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    last = Constant <value = int64[1] {-1}> ()
    per_sample = Constant <value = int64[4] {-1, 1, 1, 1}> ()
    merged = Constant <value = int64[3] {0, 0, -1}> ()
    heads_0 = Constant <value_int: int = @num_heads> ()
    heads = Reshape (heads_0, one)
    split = Concat <axis = 0> (zero, zero, heads, last)
    query_split = Reshape (query, split)
    query_heads = Transpose <perm = [0, 2, 1, 3]> (query_split)
    scale_0 = Constant <value_float: float = @scale> ()
    scale_like = CastLike (scale_0, query)
    q = Mul (query_heads, scale_like)
    key_split = Reshape (key, split)
    k = Transpose <perm = [0, 2, 3, 1]> (key_split)
    value_split = Reshape (value, split)
    v = Transpose <perm = [0, 2, 1, 3]> (value_split)
"""
"""Lines of a body that split `query`, `key` and `value` into heads: `q` [B, heads, N, D], scaled, `k` [B, heads, D, T]
and `v` [B, heads, T, D]; `per_sample` is the shape [B, 1, 1, 1], and `merged` joins heads again."""
_BODY = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{NAME} <num_heads, scale, plugin_namespace, plugin_version>
    (query, key, value, local_key, local_value, token_index, strength) => (output)
{{
{HEADS}
    eight = Constant <value = int64[1] {{8}}> ()
    end_of_values = Constant <value = int64[1] {{-8}}> ()
    end_of_column = Constant <value = int64[1] {{-7}}> ()
    channels = Constant <value = int64[1] {{3}}> ()
    per_token = Constant <value = int64[4] {{1, 1, -1, 1}}> ()

    token = Reshape (token_index, per_sample)
    zero_0 = Constant <value_int = 0> ()
    one_0 = Constant <value_int = 1> ()
    tokens = Shape <start = 1, end = 2> (key)
    tokens_0 = Squeeze (tokens, zero)
    counted = Range (zero_0, tokens_0, one_0)
    positions = Reshape (counted, per_token)
    is_token = Equal (positions, token)
    one_hot = CastLike (is_token, query)
    seven_right = Constant <value = int64[8] {{0, 0, 0, 0, 0, 0, 0, 7}}> ()
    column_values = Pad (one_hot, seven_right)
    samples = Shape <start = 0, end = 1> (query)
    column_shape = Concat <axis = 0> (samples, heads, tokens, eight)
    column_heads = Expand (column_values, column_shape)
    v_wide = Concat <axis = 3> (v, column_heads)

    eight_right = Constant <value = int64[8] {{0, 0, 0, 0, 0, 0, 0, 8}}> ()
    eight_below = Constant <value = int64[8] {{0, 0, 0, 0, 0, 0, 8, 0}}> ()
    q_wide = Pad (q, eight_right)
    k_wide = Pad (k, eight_below)
    scores = MatMul (q_wide, k_wide)
    probabilities = Softmax <axis = -1> (scores)
    attended_wide = MatMul (probabilities, v_wide)
    attended = Slice (attended_wide, zero, end_of_values, channels)
    column = Slice (attended_wide, end_of_values, end_of_column, channels)
    column_axes = Constant <value = int64[3] {{1, 2, 3}}> ()
    peak = ReduceMax <keepdims = 1> (column, column_axes)
    share = Div (column, peak)
    zero_index = Reshape (zero_0, per_sample)
    everywhere = Less (token, zero_index)
    one_like = CastLike (one_0, query)
    mask = Where (everywhere, one_like, share)

    local_key_split = Reshape (local_key, split)
    kl = Transpose <perm = [0, 2, 3, 1]> (local_key_split)
    local_value_split = Reshape (local_value, split)
    vl = Transpose <perm = [0, 2, 1, 3]> (local_value_split)
    local_scores = MatMul (q, kl)
    local_probabilities = Softmax <axis = -1> (local_scores)
    local = MatMul (local_probabilities, vl)

    strength_sample = Reshape (strength, per_sample)
    strength_like = CastLike (strength_sample, query)
    none = CastLike (zero_index, query)
    is_off = Equal (strength_like, none)
    scaled_mask = Mul (mask, strength_like)
    weight = Where (is_off, strength_like, scaled_mask)
    injected = Mul (weight, local)
    out_heads = Add (attended, injected)
    out_split = Transpose <perm = [0, 2, 1, 3]> (out_heads)
    output = Reshape (out_split, merged)
}}
"""


def function_proto() -> onnx.FunctionProto:
    """The function's definition, to be put into a model that has the node."""
    return parser.parse_function(_BODY)
