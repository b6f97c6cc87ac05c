"""Inputs of the biased attention, a model of one node of it, and what its forms are compared with."""

from dataclasses import dataclass

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor
from x2i.kernels.biased_attention.onnx_function import biased_function
from x2i.kernels.biased_attention.op import INPUTS, NAME
from x2i.kernels.biased_attention.reference import biased_attention
from x2i.kernels.domain import ATTRIBUTES, DOMAIN, VERSION
from x2i.kernels.injected_attention.onnx_function import OPSET

from tests.numerics import assert_as_close

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@dataclass(frozen=True)
class BiasedCase:
    """Sizes as in the op's description: B samples of N queries and T tokens."""

    samples: int
    queries: int
    tokens: int
    heads: int
    head_width: int

    @property
    def id(self) -> str:
        return f"B{self.samples}-N{self.queries}-T{self.tokens}-{self.heads}x{self.head_width}"

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, ...]:
        """The op's seven inputs; two fifths of the map say something."""
        random = torch.Generator().manual_seed(seed + self.samples + self.tokens)
        samples, queries, tokens, channels = self.samples, self.queries, self.tokens, self.heads * self.head_width
        shapes = [(samples, queries, channels), (samples, tokens, channels), (samples, tokens, channels)]
        query, key, value = (torch.randn(shape, generator=random).to(dtype) * 1.5 for shape in shapes)
        bias = torch.rand(samples, queries, tokens, generator=random).where(
            torch.rand(samples, queries, tokens, generator=random) > 0.6, torch.zeros(())
        )
        gain_max, gain_deviation = torch.rand(2, samples, generator=random) * 0.4
        key_bias = torch.randn(samples, tokens, generator=random)
        return query, key, value, bias, gain_max, gain_deviation, key_bias

    def model(self, dtype: str) -> bytes:
        """One node with its function, serialized, for any number of samples, queries and tokens."""
        channels = self.heads * self.head_width
        shapes = {"query": ["B", "N", channels], "key": ["B", "T", channels], "value": ["B", "T", channels]}
        single = {"bias": ["B", "N", "T"], "gain_max": ["B"], "gain_deviation": ["B"], "key_bias": ["B", "T"]}
        typed = [
            helper.make_tensor_value_info(name, TYPES[dtype] if name in shapes else TensorProto.FLOAT, shape)
            for name, shape in (shapes | single).items()
        ]
        output = helper.make_tensor_value_info("output", TYPES[dtype], shapes["query"])
        attributes = {"num_heads": self.heads, "scale": self.head_width**-0.5, **ATTRIBUTES}
        node = helper.make_node(NAME, INPUTS, ["output"], domain=DOMAIN, **attributes)
        graph = helper.make_graph([node], "one_node", typed, [output])
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        made = helper.make_model(graph, opset_imports=versions, functions=[biased_function()], ir_version=10)
        onnx.checker.check_model(made, full_check=True)
        serialized: bytes = made.SerializeToString()
        return serialized


def written_out(inputs: tuple[Tensor, ...], heads: int) -> Tensor:
    """The port's formula with its scores unscaled, sample by sample and head by head, in float64."""
    query, key, value, bias, gain_max, gain_deviation, key_bias = inputs
    out = torch.empty(query.shape, dtype=torch.float64)
    width = query.shape[-1] // heads
    for sample in range(len(query)):
        parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
        scores = torch.stack([query[sample, :, p].double() @ key[sample, :, p].double().T for p in parts])
        rise = gain_max[sample] * scores.max() + gain_deviation[sample] * scores.std(correction=1)
        scores = (scores + bias[sample] * rise) / width**0.5 + key_bias[sample]
        for part, probabilities in zip(parts, scores.softmax(-1), strict=True):
            out[sample, :, part] = probabilities @ value[sample, :, part].double()
    return out


def assert_as_close_as_torch_biased(actual: Tensor, inputs: tuple[Tensor, ...], heads: int) -> None:
    """At most twice as far from the fp32 reference as the same formula in the inputs' precision."""
    exact = biased_attention(*(tensor.float() for tensor in inputs), heads)
    peer = biased_attention(*inputs, heads)
    assert actual.dtype == peer.dtype == inputs[0].dtype
    assert_as_close(*(tensor.float().cpu().numpy() for tensor in (actual, peer, exact)))
