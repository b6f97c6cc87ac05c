"""The fp32 reference against ELITE's original attention, layer by layer.

The original divides by one maximum for the whole call, the op by each sample's own. A sample alone is the same; in a
batch, the samples' strengths carry the difference.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from x2i.kernels.injected_attention.reference import column_mask, injected_attention

from tests.goldens import golden_arrays
from tests.numerics import assert_close

LAYERS = range(3)
STRENGTHS = {"lambda0": 0.0, "lambda0p8": 0.8, "lambda1": 1.0, "lambda1p5": 1.5, "nolambda": 1.0}


class Layer:
    """One golden: its arrays, and what the op takes."""

    def __init__(self, number: int):
        arrays = golden_arrays(f"elite/golden/attn_layer_{number}.npz")
        self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays if arrays[name].ndim}
        self.heads, self.scale = int(arrays["heads"]), float(arrays["scale"])
        self.index = self.arrays["index"]
        self.inputs = {
            "query": self.projected("hidden_states", "to_q"),
            "key": self.projected("context", "to_k_global"),
            "value": self.projected("context", "to_v_global"),
            "local_key": self.projected("local", "to_k_local"),
            "local_value": self.projected("local", "to_v_local"),
        }

    def projected(self, tokens: str, name: str) -> Tensor:
        return functional.linear(self.arrays[tokens], self.arrays[f"w_{name}"])

    def out(self, index: Tensor, strength: Tensor, scale: float | None = None, **changed: Tensor) -> Tensor:
        inputs = self.inputs | changed
        attended = injected_attention(*inputs.values(), index, strength, self.heads, scale)
        return functional.linear(attended, self.arrays["w_to_out"], self.arrays["b_to_out"])

    def share(self) -> Tensor:
        """Each sample's largest probability of its token over the batch's largest, [B]."""
        q, k = (self.inputs[name].unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("query", "key"))
        probabilities = (q @ k.mT * self.scale).softmax(-1)
        peaks = torch.stack([each[..., at].max() for each, at in zip(probabilities, self.index, strict=True)])
        return peaks / peaks.max()


@pytest.mark.parametrize("number", LAYERS)
@torch.no_grad()
def test_each_sample_as_the_original_draws_it_alone(number):
    layer = Layer(number)
    strength = torch.full((len(layer.index),), 0.8)
    expected = layer.arrays["out_single_lambda0p8"].numpy()
    assert_close(layer.out(layer.index, strength).numpy(), expected, "elite-stage")
    assert_close(layer.out(layer.index, strength, layer.scale).numpy(), expected, "elite-stage")
    assert np.abs(expected - layer.arrays["out_lambda0p8"].numpy()).max() > 1e-3, "this golden couples no samples"


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize("number", LAYERS)
@torch.no_grad()
def test_every_strength_of_a_batch(number, name):
    layer = Layer(number)
    out = layer.out(layer.index, STRENGTHS[name] * layer.share())
    assert_close(out.numpy(), layer.arrays[f"out_{name}"].numpy(), "elite-stage")


@pytest.mark.parametrize("number", LAYERS)
@torch.no_grad()
def test_no_strength_is_the_attention_alone(number):
    layer = Layer(number)
    out = layer.out(layer.index, torch.zeros(len(layer.index)))
    assert_close(out.numpy(), layer.arrays["out_nolocal"].numpy(), "elite-stage")


@torch.no_grad()
def test_an_index_below_zero_weights_every_position_alike():
    probabilities = torch.rand(2, 3, 5, 7)
    mask = column_mask(probabilities, torch.tensor([-1, 4]))
    assert (mask[0] == 1).all() and mask[1].max() == 1 and mask[1].min() < 0.9
    assert_close(mask[1].numpy(), (probabilities[1, ..., 4:5] / probabilities[1, ..., 4].max()).numpy(), "elite-stage")


@torch.no_grad()
def test_samples_never_influence_each_other():
    layer = Layer(2)
    strength = torch.tensor([0.8, -0.3, 1.5])
    together = layer.out(layer.index, strength)
    for name, value in layer.inputs.items():
        changed = value.clone()
        changed[0] = changed[0] * 3 + 1
        apart = layer.out(layer.index, strength, **{name: changed})
        assert torch.equal(apart[1:], together[1:]) and not torch.allclose(apart[0], together[0])
