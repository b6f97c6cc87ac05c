"""T5's encoder from every published form of its folder against transformers, and its tokenizers against their own."""

import json
import shutil

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import ByT5Tokenizer, T5EncoderModel, T5Tokenizer
from x2i.models.errors import CheckpointError
from x2i.models.text_encoders.t5 import read_t5, t5_tokenizer_json

from tests.models.text_encoders.encoder_folders import PIECES, SENTINELS, T5, TEXTS, encoder_half, publish_t5
from tests.numerics import assert_close

FORMS = {
    "gated": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "relu": {"feed_forward_proj": "relu"},
    "gated silu": {"feed_forward_proj": "gated-silu"},
    "wide heads": {"d_kv": 17, "num_heads": 5},
}


def truth(folder, kind="t5"):
    """transformers' own reading of the folder."""
    return encoder_half(T5[kind][1].from_pretrained(folder))


def batch(length, vocabulary=131):
    random = torch.Generator().manual_seed(length)
    ids = torch.randint(3, vocabulary, (3, length), generator=random)
    mask = (torch.arange(length) < torch.tensor([[length], [length // 2 + 1], [1]])).long()
    return ids * mask, mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return publish_t5(tmp_path_factory.mktemp("t5"), **FORMS["gated"])


@pytest.mark.parametrize("length", [1, 11, 77])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_last_hidden_state(tmp_path, form, length):
    publish_t5(tmp_path, **FORMS[form])
    ids, mask = batch(length)
    expected = truth(tmp_path)(input_ids=ids, attention_mask=mask).last_hidden_state
    found = read_t5(tmp_path)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert_close(found.numpy(), expected.numpy(), "exact")


@pytest.mark.parametrize("kind", ["mt5", "umt5"])
@torch.no_grad()
def test_its_relatives(tmp_path, kind):
    publish_t5(tmp_path, kind, feed_forward_proj="gated-gelu")
    ids, mask = batch(23)
    expected = truth(tmp_path, kind)(input_ids=ids, attention_mask=mask).last_hidden_state
    found = read_t5(tmp_path)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert_close(found.numpy(), expected.numpy(), "exact")


@torch.no_grad()
def test_ids_mask_and_places_change_the_features(folder):
    model = read_t5(folder)
    ids, mask = torch.arange(4, 17)[None], torch.ones(1, 13, dtype=torch.long)
    base = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for place in range(13):
        others, hidden = ids.clone(), mask.clone()
        others[0, place], hidden[0, place] = 99, 0
        assert (model(input_ids=others, attention_mask=mask).last_hidden_state - base).abs().amax(-1).gt(1e-6).all()
        assert (model(input_ids=ids, attention_mask=hidden).last_hidden_state - base).abs().amax(-1).gt(1e-6).all()
    turned = model(input_ids=ids.flip(1), attention_mask=mask).last_hidden_state.flip(1)
    assert (turned - base).abs().max() > 1e-3


def state(folder):
    return {key: value.clone() for key, value in T5EncoderModel.from_pretrained(folder).state_dict().items()}


def copied(folder, to):
    to.mkdir(exist_ok=True)
    for name in ("config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, to)
    return to


@pytest.mark.parametrize("form", ["encoder alone", ".bin", "both names", "own name", "shards", "half precision"])
def test_every_published_form(tmp_path, folder, form):
    expected = read_t5(folder).state_dict()
    place, tensors = copied(folder, tmp_path / "form"), state(folder)
    del tensors["encoder.embed_tokens.weight"]
    own = tensors["shared.weight"]
    if form == "encoder alone":
        save_file(tensors, place / "model.safetensors")
    elif form == ".bin":
        torch.save(
            tensors | {"lm_head.weight": own, "decoder.final_layer_norm.weight": own[0]}, place / "pytorch_model.bin"
        )
    elif form == "both names":
        torch.save(tensors | {"encoder.embed_tokens.weight": own}, place / "pytorch_model.bin")
    elif form == "own name":
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        save_file(tensors, place / "model.safetensors")
    elif form == "shards":
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
        for name, keys in parts.items():
            save_file({key: tensors[key] for key in keys}, place / name)
        index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
        (place / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    else:
        save_file({key: value.half() for key, value in tensors.items()}, place / "model.safetensors")
        expected = {key: value.half().float() for key, value in expected.items()}
    found = read_t5(place).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == torch.float32 for key, value in expected.items())


def test_all_misfits_are_listed_under_the_files_names(tmp_path, folder):
    tensors = state(folder)
    del tensors["encoder.embed_tokens.weight"], tensors["encoder.final_layer_norm.weight"]
    tensors["encoder.block.0.layer.0.SelfAttention.o.weight"] = torch.ones(28, 3)
    tensors["encoder.block.5.layer.0.SelfAttention.o.weight"] = torch.ones(28, 27)
    save_file(tensors, copied(folder, tmp_path) / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_t5(tmp_path)
    assert [line.strip() for line in caught.value.problems[1:]] == [
        "missing encoder.final_layer_norm.weight [28]",
        "unexpected encoder.block.5.layer.0.SelfAttention.o.weight [28, 27]",
        "wrong encoder.block.0.layer.0.SelfAttention.o.weight: expected [28, 27], got [28, 3]",
    ]


def test_two_embeddings_are_refused(tmp_path, folder):
    tensors = state(folder)
    tensors["encoder.embed_tokens.weight"] = tensors["encoder.embed_tokens.weight"] + 1
    save_file(tensors, copied(folder, tmp_path) / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"shared\.weight and encoder\.embed_tokens\.weight to be one matrix"):
        read_t5(tmp_path)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"model_type": "bert"}, "expected model_type 't5' or 'mt5' or 'umt5', got 'bert'"),
        ({"d_model": "wide"}, "expected a configuration its class accepts"),
        ({"feed_forward_proj": "gated-magic-gelu"}, "expected a configuration its class accepts"),
    ],
)
def test_unfit_configurations(tmp_path, folder, changed, problem):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    settings = json.loads((folder / "config.json").read_text("utf-8")) | changed
    (tmp_path / "config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(CheckpointError, match=problem):
        read_t5(tmp_path)


def ids_of(made, window, pad=0):
    tokenizer = Tokenizer.from_str(made)
    assert tokenizer.truncation is None and tokenizer.padding is None
    tokenizer.enable_truncation(window)
    tokenizer.enable_padding(length=window, pad_id=pad)
    return np.array([each.ids for each in tokenizer.encode_batch(TEXTS)])


@pytest.mark.parametrize("form", ["tokenizer.json", "spiece.model"])
@pytest.mark.parametrize("window", [9, 33])
def test_ids(tmp_path, folder, form, window):
    for name in (form, "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    expected = T5Tokenizer.from_pretrained(folder)(TEXTS, truncation=True, max_length=window, padding="max_length")
    assert_close(ids_of(t5_tokenizer_json(tmp_path), window), np.array(expected["input_ids"]), "exact")


def test_ids_are_sentencepieces_own(tmp_path, folder):
    shutil.copy(folder / "spiece.model", tmp_path)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    tokenizer = Tokenizer.from_str(t5_tokenizer_json(tmp_path))
    for text in (text for text in TEXTS if "<" not in text):
        assert tokenizer.encode(text).ids == [*own.encode(text), own.eos_id()], text


def test_sentinels_have_the_last_ids_the_first_the_very_last(tmp_path, folder):
    for given, count in ({"extra_ids": SENTINELS}, SENTINELS), ({}, 100), ({"extra_ids": 0}, 0):
        shutil.copy(folder / "spiece.model", tmp_path)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(given), "utf-8")
        vocabulary = Tokenizer.from_str(t5_tokenizer_json(tmp_path)).get_vocab()
        assert [vocabulary[f"<extra_id_{number}>"] for number in range(count)] == [
            PIECES - 1 + count - n for n in range(count)
        ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": "many"}), "utf-8")
    with pytest.raises(CheckpointError, match="expected extra_ids as a whole number"):
        t5_tokenizer_json(tmp_path)


def test_bytes_are_byt5s(tmp_path):
    config = {"tokenizer_class": "ByT5Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    own = ByT5Tokenizer()
    texts = [text for text in TEXTS if "</s>" not in text] + ["".join(map(chr, range(1, 400))), "a <extra_id_3> b"]
    tokenizer = Tokenizer.from_str(t5_tokenizer_json(tmp_path))
    for text in texts:
        assert tokenizer.encode(text).ids == own(text)["input_ids"], text


def test_a_model_with_other_ids_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 9), model_prefix=str(tmp_path / "spiece"), vocab_size=40, minloglevel=2
    )
    with pytest.raises(CheckpointError, match=r"expected the pieces <pad>, </s>, <unk> first"):
        t5_tokenizer_json(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe\x00 nothing of the kind"])
def test_damaged_tokenizers(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: expected .*fix: "):
        t5_tokenizer_json(tmp_path)


def test_no_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json or spiece\.model, got neither"):
        t5_tokenizer_json(tmp_path)
