"""Operators by what float16 does to them."""

SUMS_AND_POWERS = frozenset(
    {
        "CumSum",
        "Exp",
        "GlobalAveragePool",
        "GroupNormalization",
        "InstanceNormalization",
        "Log",
        "LpNormalization",
        "MeanVarianceNormalization",
        "Pow",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sqrt",
    }
)
"""Stay in float32: ONNX does not say that their sums are kept in float32, as it does for LayerNormalization, and the
squares of ordinary activations pass 65504."""

LEADS_IN = {"Sin": 0, "Cos": 0, "Tan": 0, "Log": 1}
"""Stay in float32 with what leads to their argument, through so many layers on the way.

A sinusoid's argument: near 1000 float16 counts in steps of a half, of a turn of 6.28. A logarithm's: it makes of a
share that a small number is off by a difference as large as any other, and behind a spectrogram small numbers are what
a sum leaves. Measured on a spoken word: AudioCLIP's features are off by 0.35 of their spread, and by 0.67 where it is
spoken at a tenth of the volume, with the spectrogram in half; by 0.003 and 0.005 without.
"""

LAYERS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "LayerNormalization", "Softmax", "Einsum"})
"""What is no mere arithmetic on the way to an argument."""

EXACT = frozenset(
    {
        "Abs",
        "Cast",
        "CastLike",
        "Clip",
        "Compress",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Max",
        "MaxPool",
        "Min",
        "Neg",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Relu",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    }
)
"""Move or select numbers and round none."""
