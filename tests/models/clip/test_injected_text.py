"""CLIP's text encoder with injected words, against the original and against a loop over the batch."""

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel
from x2i.models.clip.injected_text import InjectedText

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def published():
    return InjectedText(CLIPTextModel.from_pretrained(golden("elite/model/text_encoder"), dtype=torch.float32))


@pytest.mark.parametrize("case", ["inject_1word", "inject_5words", "inject_5words_end", "inject_index0"])
@torch.no_grad()
def test_injected_words(case, published):
    arrays = golden_arrays(f"elite/golden/text_{case}.npz")
    ids, words, index = (torch.from_numpy(arrays[name]) for name in ("input_ids", "inj_embedding", "inj_index"))
    assert_close(published(ids, words, index).numpy(), arrays["last_hidden_state"], "elite-stage")


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("case", ["plain", "uncond"])
@torch.no_grad()
def test_an_index_at_the_end_of_the_window_injects_nothing(case, count, published):
    arrays = golden_arrays(f"elite/golden/text_{case}.npz")
    ids = torch.from_numpy(arrays["input_ids"])
    words = torch.full((len(ids), count, 64), float("nan"))
    context = published(ids, words, torch.full((len(ids),), 77))
    assert_close(context.numpy(), arrays["last_hidden_state"], "elite-stage")


@torch.no_grad()
def test_a_guided_batch_is_its_rows(published):
    arrays = golden_arrays("elite/golden/text_inject_1word.npz")
    plain = golden_arrays("elite/golden/text_uncond.npz")
    ids = torch.from_numpy(np.concatenate([plain["input_ids"], arrays["input_ids"]]))
    words = torch.from_numpy(arrays["inj_embedding"][[0, 0, 1]])
    context = published(ids, words, torch.tensor([77, *arrays["inj_index"]])).numpy()
    expected = np.concatenate([plain["last_hidden_state"], arrays["last_hidden_state"]])
    assert_close(context, expected, "elite-stage")


def tiny() -> CLIPTextModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 15, "intermediate_size": 22, "num_hidden_layers": 2, "num_attention_heads": 3}
    ids = {"vocab_size": 31, "max_position_embeddings": 11, "bos_token_id": 29, "eos_token_id": 30, "pad_token_id": 30}
    return CLIPTextModel(CLIPTextConfig(**sizes, **ids)).eval()


def one_by_one(model: CLIPTextModel, ids, words, index):
    """The same, sentence by sentence, with the embedding's output cut and joined by hand."""
    embeddings = getattr(model, "text_model", model).embeddings
    rows = []
    for row, at, own in zip(ids, index.tolist(), words, strict=True):
        tokens = embeddings.token_embedding.weight[row]
        joined = torch.cat([tokens[:at], own, tokens[at + 1 :]])[: len(row)] if at < len(row) else tokens
        hook = embeddings.token_embedding.register_forward_hook(lambda *_, joined=joined: joined[None])
        rows.append(model(input_ids=row[None]).last_hidden_state)
        hook.remove()
    return torch.cat(rows)


@pytest.mark.parametrize("count", [1, 2, 4])
@torch.no_grad()
def test_every_index(count):
    model = tiny()
    index = torch.tensor([*range(11 - count + 1), 11])
    ids = torch.randint(0, 29, (len(index), 11))
    words = torch.randn(len(index), count, 15)
    expected = one_by_one(model, ids, words, index)
    assert_close(InjectedText(model)(ids, words, index).numpy(), expected.numpy(), "elite-stage")
    assert not torch.allclose(expected[:-1], model(input_ids=ids[:-1]).last_hidden_state)


@torch.no_grad()
def test_every_word_counts_and_only_from_its_place_on():
    torch.manual_seed(0)
    model, ids, words = InjectedText(tiny()), torch.randint(0, 29, (1, 11)), torch.randn(1, 3, 15)
    context = model(ids, words, torch.tensor([4]))
    for word in range(3):
        changed = words.clone()
        # Not the same in every channel, which layer norm takes away again.
        changed[0, word] += torch.randn(15)
        moved = (model(ids, changed, torch.tensor([4])) - context).abs().amax(-1)[0] > 1e-4
        assert moved.tolist() == [slot >= 4 + word for slot in range(11)]


@torch.no_grad()
def test_one_trace_takes_every_batch_and_number_of_words():
    model = InjectedText(tiny())
    batch, count = torch.export.Dim("batch"), torch.export.Dim("words")
    shapes = ({0: batch}, {0: batch, 1: count}, {0: batch})
    example = (torch.randint(0, 29, (2, 11)), torch.randn(2, 3, 15), torch.tensor([4, 11]))
    traced = torch.export.export(model, example, dynamic_shapes=shapes, strict=False).module()
    for rows, words in ((1, 1), (3, 5), (2, 1)):
        inputs = torch.randint(0, 29, (rows, 11)), torch.randn(rows, words, 15), torch.tensor([11, 0, 6][:rows])
        assert_close(traced(*inputs).numpy(), model(*inputs).numpy(), "elite-stage")
