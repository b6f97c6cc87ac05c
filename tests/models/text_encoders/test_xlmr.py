"""XLM-R from both published layouts against the original run, and its tokenizer from both published forms."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from x2i.models.errors import CheckpointError
from x2i.models.text_encoders.xlmr import read_xlmr, xlmr_tokenizer_json

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

CASES = range(7)
FOLDER, HUB = "gluegen/multilingual/xlmr", "gluegen/multilingual/xlmr_hub_bin"


@pytest.fixture(scope="module")
def models():
    folder = golden(FOLDER)
    return {
        "prefix-free folder": read_xlmr(folder),
        "hub file": read_xlmr(golden(HUB) / "pytorch_model.bin", config=folder / "config.json"),
    }


@pytest.mark.parametrize("layout", ["prefix-free folder", "hub file"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_last_hidden_state(models, layout, case):
    expected = golden_tensors("gluegen/multilingual/multilingual.safetensors")
    ids, mask = (torch.from_numpy(expected[f"{case}.{name}"]) for name in ("input_ids", "attention_mask"))
    features = models[layout](input_ids=ids, attention_mask=mask).last_hidden_state
    assert_close(features.numpy(), expected[f"{case}.last_hidden_state"], "xlmr")


@torch.no_grad()
def test_ids_and_mask_change_the_features(models):
    model = models["hub file"]
    ids = torch.arange(4, 13)[None]
    mask = torch.ones_like(ids)
    base = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for place in range(9):
        others, hidden = ids.clone(), mask.clone()
        others[0, place], hidden[0, place] = 99, 0
        # An unmasked word reaches every position; so does hiding it, except for itself where nothing else changes.
        assert (model(input_ids=others, attention_mask=mask).last_hidden_state - base).abs().amax(-1).gt(1e-6).all()
        assert (model(input_ids=ids, attention_mask=hidden).last_hidden_state - base).abs().amax(-1).gt(1e-6).all()


@pytest.mark.parametrize("form", ["tokenizer.json", "sentencepiece.bpe.model"])
@pytest.mark.parametrize("case", CASES)
def test_ids(tmp_path, form, case):
    shutil.copy(golden(FOLDER) / form, tmp_path)
    expected = golden_tensors("gluegen/multilingual/multilingual.safetensors")
    texts = json.loads(golden("gluegen/multilingual/multilingual.json").read_text("utf-8"))["cases"][case]["texts"]
    tokenizer = Tokenizer.from_str(xlmr_tokenizer_json(tmp_path))
    assert tokenizer.truncation is None and tokenizer.padding is None
    tokenizer.enable_truncation(77)
    tokenizer.enable_padding(length=77, pad_id=1, pad_token="<pad>")
    encoded = tokenizer.encode_batch(texts)
    assert_close(np.array([each.ids for each in encoded]), expected[f"{case}.input_ids"], "exact")
    assert_close(np.array([each.attention_mask for each in encoded]), expected[f"{case}.attention_mask"], "exact")


def test_shards_and_half_precision(tmp_path, models):
    folder = golden(FOLDER)
    tensors = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for name, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / name)
    weight_map = {key: name for name, keys in shards.items() for key in keys}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    shutil.copy(folder / "config.json", tmp_path)
    for key, value in read_xlmr(tmp_path).state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, tensors[key].float())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"got no model-00002-of-00002\.safetensors"):
        read_xlmr(tmp_path)


def test_a_config_that_is_elsewhere():
    with pytest.raises(CheckpointError, match=r"config\.json: expected the encoder's config\.json.*name it separately"):
        read_xlmr(golden(HUB))
    read_xlmr(golden(HUB), config=golden(FOLDER))


def test_all_misfits_are_listed_under_the_files_names(tmp_path):
    tensors = torch.load(golden(HUB) / "pytorch_model.bin", weights_only=True)
    tensors["roberta.encoder.layer.0.output.dense.bias"] = torch.ones(3)
    tensors["roberta.encoder.layer.7.output.dense.bias"] = torch.ones(64)
    tensors["roberta.pooler.dense.bias"] = torch.ones(64)
    del tensors["roberta.embeddings.LayerNorm.bias"]
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as caught:
        read_xlmr(tmp_path / "pytorch_model.bin", config=golden(FOLDER))
    assert [line.strip() for line in caught.value.problems[1:]] == [
        "missing roberta.embeddings.LayerNorm.bias [64]",
        "unexpected roberta.encoder.layer.7.output.dense.bias [64]",
        "wrong roberta.encoder.layer.0.output.dense.bias: expected [64], got [3]",
    ]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "bert"}, "expected model_type 'xlm-roberta', got 'bert'"),
        ({"model_type": "xlm-roberta", "hidden_size": "wide"}, "expected a configuration its class accepts"),
        ({"model_type": "xlm-roberta", "hidden_size": 10, "num_attention_heads": 3}, "heads"),
    ],
)
def test_unfit_configurations(tmp_path, config, problem):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        read_xlmr(golden(HUB), config=tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "sentencepiece.bpe.model"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe\x00 nothing of the kind"])
def test_damaged_tokenizers(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: expected .*fix: "):
        xlmr_tokenizer_json(tmp_path)


def test_no_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json or sentencepiece\.bpe\.model, got neither"):
        xlmr_tokenizer_json(tmp_path)
