"""Encoders of every kind from their folders, chosen by model_type, against transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertModel, CLIPTextModel, RobertaModel
from x2i.models.errors import CheckpointError
from x2i.models.text_encoders.prompt_encoder import read_prompt_encoder

from tests.goldens import golden
from tests.models.text_encoders.encoder_folders import T5 as T5_MODELS
from tests.models.text_encoders.encoder_folders import TEXTS, encoder_half, publish_bert, publish_clip, publish_t5
from tests.numerics import assert_close

PUBLISH = {
    "t5": publish_t5,
    "bert": publish_bert,
    "old bert": lambda folder: publish_bert(folder, old_names=True),
    "roberta": lambda folder: publish_bert(folder, "roberta"),
    "clip": publish_clip,
}
OWN = {"bert": BertModel, "old bert": BertModel, "roberta": RobertaModel, "clip": CLIPTextModel}
SIZES = {"t5": (28, 131, 0, None), "clip": (20, 514, 513, 19), "roberta": (28, 60, 1, 35)}
SIZES |= {"bert": (28, 60, 0, 37), "old bert": (28, 60, 0, 37)}


@pytest.mark.parametrize("kind", PUBLISH)
@torch.no_grad()
def test_states_of_padded_prompts(tmp_path, kind):
    folder = PUBLISH[kind](tmp_path)
    encoder, window = read_prompt_encoder(folder), 19
    assert (encoder.width, encoder.vocabulary, encoder.pad_id, encoder.positions) == SIZES[kind]
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, truncation=True, max_length=window, padding="max_length", return_tensors="pt"
    )
    tokenizer = Tokenizer.from_str(encoder.tokenizer_json)
    tokenizer.enable_truncation(window)
    tokenizer.enable_padding(length=window, pad_id=encoder.pad_id)
    ids = torch.tensor([each.ids for each in tokenizer.encode_batch(TEXTS)])
    assert_close(ids.numpy(), tokens["input_ids"].numpy(), "exact")
    arrays = {name: tokens[name] for name in encoder.inputs}
    if kind == "t5":
        own = encoder_half(T5_MODELS["t5"][1].from_pretrained(folder))
    else:
        own = OWN[kind].from_pretrained(folder).eval()
    expected = own(**arrays).last_hidden_state
    assert_close(encoder.model(**arrays).last_hidden_state.numpy(), expected.numpy(), "exact")


def test_xlmr_of_the_goldens():
    encoder = read_prompt_encoder(golden("gluegen/multilingual/xlmr"))
    assert (encoder.kind, encoder.width, encoder.pad_id, encoder.masks) == ("xlm-roberta", 64, 1, True)


def test_an_unknown_kind_is_told_with_those_known(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}), "utf-8")
    with pytest.raises(CheckpointError, match=r"expected model_type 'xlm-roberta' or .*'t5'.*, got 'gpt2'; fix: "):
        read_prompt_encoder(tmp_path)


def test_problems_of_weights_and_tokenizer_come_together(tmp_path):
    publish_t5(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(CheckpointError) as caught:
        read_prompt_encoder(tmp_path)
    assert "missing encoder.final_layer_norm.weight [28]" in caught.value.problems[1]
    assert "expected tokenizer.json or spiece.model" in caught.value.problems[2]


def test_a_tokenizer_of_more_ids_than_embeddings_is_refused(tmp_path):
    publish_t5(tmp_path, vocab_size=56)
    with pytest.raises(CheckpointError, match=r"expected a tokenizer of at most 56 ids, .*got 57; fix: "):
        read_prompt_encoder(tmp_path)


@pytest.mark.parametrize("pad", [None, 131, -1])
def test_a_padding_that_is_no_id_is_refused(tmp_path, pad):
    publish_t5(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8")) | {"pad_token_id": pad}
    (tmp_path / "config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(CheckpointError, match=rf"pad_token_id.*, got {pad}|expected a configuration its class accepts"):
        read_prompt_encoder(tmp_path)
