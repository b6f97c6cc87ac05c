"""Weighted cross-attention against the published formulas, written anew in double precision."""

import numpy as np
import pytest
import torch
from x2i.models.weighted_attention import KeyWeights, weighted_attention
from x2i.runtime.items.weights import UNREAD, key_bias, key_stretch

from tests.numerics import assert_close

HEADS = 3


def drawn(rows, queries, tokens, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, length, 5 * HEADS)).astype(np.float32) for length in (queries, tokens, tokens)]


def ours(query, key, value, bias, stretch):
    tensors = [torch.from_numpy(np.asarray(array, np.float32)) for array in (query, key, value, bias, stretch)]
    return weighted_attention(KeyWeights(*tensors[3:]), *tensors[:3], HEADS).numpy()


def formula(query, key, value, weights, weighting):
    """softmax(s) with s's own change by the weights [T] of one row, over the keys that are there."""
    out = []
    for head in range(HEADS):
        q, k, v = (array[:, head * 5 : head * 5 + 5].astype(np.float64) for array in (query, key, value))
        scores = q @ k.T / np.sqrt(5)
        if weighting == "multiplicative":
            scores = (scores - scores.min(1, keepdims=True)) * weights
        shares = np.exp(scores) * (weights if weighting == "additive" else 1)
        out.append(shares / shares.sum(1, keepdims=True) @ v)
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize("weighting", ["additive", "multiplicative"])
@pytest.mark.parametrize("padding", [0, 4])
def test_rows_of_their_own_weights_are_the_formula(weighting, padding):
    query, key, value = drawn(2, 7, 6)
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.1, 3, (2, 6)).astype(np.float32)
    expected = np.stack([formula(*row, weighting) for row in zip(query, key, value, weights, strict=True)])
    # What stands on padding must not count, though its scores are the least ones.
    key, value = (np.pad(array, ((0, 0), (0, padding), (0, 0)), constant_values=-30) for array in (key, value))
    bias, stretch = (np.stack([form(row, weighting) for row in weights]) for form in (key_bias, key_stretch))
    bias = np.pad(bias, ((0, 0), (0, padding)), constant_values=UNREAD)
    stretch = np.pad(stretch, ((0, 0), (0, padding)))
    assert_close(ours(query, key, value, bias, stretch), expected, "injected-attention")


@pytest.mark.parametrize("weighting", ["additive", "multiplicative"])
def test_weights_of_one_change_no_bit(weighting):
    query, key, value = drawn(1, 7, 6)
    ones, nothing = np.ones(6, np.float32), np.zeros((1, 6), np.float32)
    forms = key_bias(ones, weighting)[None], key_stretch(ones, weighting)[None]
    assert all(form.tobytes() == nothing.tobytes() for form in forms)
    plain = [torch.from_numpy(array).unflatten(-1, (HEADS, -1)).transpose(1, 2) for array in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(*plain).transpose(1, 2).flatten(2).numpy()
    assert_close(ours(query, key, value, *forms), expected, "injected-attention")


def test_a_weight_of_zero_removes_or_lowers():
    query, key, value = drawn(1, 4, 5)
    weights = np.array([1, 0, 1, 1, 1], np.float32)
    removed = ours(query, key, value, key_bias(weights, "additive")[None], np.zeros((1, 5)))
    without = [np.delete(array, 1, axis=1) for array in (key, value)]
    assert_close(
        removed, formula(query[0], *(array[0] for array in without), np.ones(4), "additive")[None], "injected-attention"
    )
    lowered = ours(query, key, value, np.zeros((1, 5)), key_stretch(weights, "multiplicative")[None])
    assert np.abs(lowered - removed).max() > 1e-3
