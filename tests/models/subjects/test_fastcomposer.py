"""FastComposer's fusion against the original module."""

import numpy as np
import pytest
import torch
from x2i.models.subjects.fastcomposer import Postfuse

from tests.goldens import golden_arrays, golden_part
from tests.numerics import assert_close

PREFIX = "postfuse_module."
CASES = ("one", "two", "padded", "mixed")


def published() -> Postfuse:
    tensors = golden_part("fastcomposer/checkpoint/pytorch_model.safetensors", PREFIX)
    own = {key: torch.from_numpy(value).float() for key, value in tensors.items()}
    module = Postfuse(len(own["layer_norm.weight"]))
    module.load_state_dict(own)
    return module


def object_index(mask: np.ndarray) -> torch.Tensor:
    """The k-th marked position of a row holds object k; -1 elsewhere."""
    return torch.from_numpy(np.where(mask, mask.cumsum(1) - 1, -1))


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_fusion(case):
    arrays = golden_arrays("fastcomposer/postfuse.npz")
    context, objects = (torch.from_numpy(arrays[f"{case}_{name}_embeds"]) for name in ("text", "object"))
    fused = published()(context, objects.squeeze(2), object_index(arrays[f"{case}_image_token_mask"]))
    assert_close(fused.numpy(), arrays[f"{case}_fused"], "postfuse")


@torch.no_grad()
def test_one_row_of_objects_serves_every_row_of_text_and_each_reaches_its_own_place():
    torch.manual_seed(0)
    module, context, objects = Postfuse(6), torch.randn(2, 5, 6), torch.randn(1, 3, 6)
    index = torch.tensor([[-1, -1, -1, -1, -1], [0, -1, 2, -1, 1]])
    fused = module(context, objects, index)
    assert torch.equal(fused, module(context, objects.expand(2, -1, -1), index))
    assert torch.equal(fused[0], context[0]) and torch.equal(fused[1, [1, 3]], context[1, [1, 3]])
    for number, place in enumerate((0, 4, 2)):
        changed = objects.clone()
        changed[0, number] += torch.randn(6)
        moved = (module(context, changed, index) - fused).abs().amax(-1) > 1e-4
        assert moved.nonzero().tolist() == [[1, place]]
